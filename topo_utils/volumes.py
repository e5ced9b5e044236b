"""What a block puts out, read as volumes: maps, vectors, tokens, channels last."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import torch
from torch import nn

from topo_utils.blocks import model_classes, module_path

# Channels come second in what these give, whatever is around them.
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)

# Children of timm's and torchvision's classes whose outputs look like tokens or maps, row by row,
# and are not: windows in an axis of their own, channels in the place of tokens, states, positions
# that are none of the image, fewer of them after a pool along rows.
_OTHER_ORDERS = {
    3: r"MixerBlock\.mlp_tokens|ResBlock\.linear_tokens|SpatialGatingUnit\.proj"
    r"|EfficientViM\.norm|EfficientAttention\.[kv]",
    4: r"PartitionAttentionLayer\.((de)?partition_(op|swap)|attn_layer|mlp_layer"
    r"|stochastic_dropout)|NestLevel\.transformer_encoder|(Shifted)?WindowAttention\.cpb_mlp"
    r"|LiteMLA\.kernel_func|CoaT\.crpe[1-4]",
}


def as_volumes(network, name, output, size, n_images=None):
    """A block's output as a batch of volumes.

    Its layout is told by the module that gives it, or the nearest around it that tells, then by its
    shape, then by the module's layers. timm's attributes ``num_prefix_tokens`` (class and register
    tokens before those of the grid) and ``output_fmt`` ("NHWC": channels last) are heeded on any
    module.

    Parameters
    ----------
    network, name : torch.nn.Module, str
        The block, as in ``network.named_modules()``.
    output : torch.Tensor, or a tuple or list with one tensor in it
        (N, C, H, W); (N, C), which is read as C x 1 x 1; the tokens (N, T, D) of a transformer, put
        back on their grid as D x h x w, with the aspect ratio of the image and without the prefix
        (where no module tells, one class token or none, as T allows); or (N, H, W, C) of modules
        that say so and of those of timm's and torchvision's networks whose first two axes have the
        aspect ratio of the image.
    size : (int, int)
        Height and width of the images.
    n_images : int, optional
        How many there are; a different number of volumes is refused (windows of an image, say).

    Returns
    -------
    torch.Tensor, shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        Anything else; the message names the block.
    """

    def refuse(what, accepted, error=ValueError):
        raise error(f"block {name!r} gives {what}; accepted: {accepted}")

    parts = output if isinstance(output, tuple | list) else [output]
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    if len(tensors) != 1:
        kind = type(output).__name__
        many = f"a {kind} with {len(tensors)} tensors"
        what = many if parts is output else f"{kind}, not a tensor"
        refuse(what, "one tensor. Name a module inside it", TypeError)
    (output,) = tensors
    kinds = [f"{output.dtype}".removeprefix("torch.")]
    kinds += ["nested"] * output.is_nested + ["without values"] * output.is_meta
    kinds += [f"{output.layout}"] * (output.layout != torch.strided)
    if kinds[1:] or output.is_complex() or output.is_quantized or "float8" in kinds[0]:
        accepted = "dense tensors of real numbers, floating-point ones of 16 bits or more"
        refuse(f"a tensor of {', '.join(kinds)}", accepted, TypeError)
    shape, path = tuple(output.shape), module_path(network, name) or [network]
    if len(shape) not in (2, 3, 4) or 0 in shape:
        refuse(f"shape {shape}", "(N, C, H, W), (N, C) or tokens (N, T, D), none of them 0")
    if n_images not in (None, len(output)):
        refuse(f"shape {shape}", f"the images first, here {n_images}")
    if len(shape) == 2:
        return output[:, :, None, None]
    if wrong := _no_volume(path, name, shape):
        refuse(wrong, "volumes, and tokens row by row. Name another module, such as one around it")
    if len(shape) == 3:
        return _on_their_grid(path, output, size, refuse)
    return output.permute(0, 3, 1, 2) if _channels_last(path, shape, size, refuse) else output


def _no_volume(path, name, shape):
    """What an output of three or four axes is that is known to be no volume, in words, or ""."""
    module, own_order = path[-1], "in an order of its own, not row by row"
    first = isinstance(module, _CHANNELS_FIRST)
    # All Hieras (those of transformers, too), but not HieraDet, the one of SAM 2.
    if len(shape) == 3 and any(re.match("Hiera(?!Det|r)", kind) for kind in _kinds(path)):
        return f"tokens {own_order}"
    for outer, inner in pairwise(path if len(shape) == 3 or not first else ()):
        for child in (child for child, part in outer._modules.items() if part is inner):
            known = (f"{kind}.{child}" for kind in model_classes(outer))
            pooled = getattr(outer, "sr", True) is not None
            if pooled and any(re.fullmatch(_OTHER_ORDERS[len(shape)], place) for place in known):
                return f"shape {shape} {own_order}"
    if len(shape) == 4 and _by_heads(path, name, shape):
        return f"shape {shape}, an axis of which are the heads of attention"
    if len(shape) == 3 and shape[1] > 1:
        rows = [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.BatchNorm1d)][-1:]
        channels = [getattr(m, "out_channels", getattr(m, "num_features", 0)) for m in rows]
        if first or channels == [shape[1]] != [shape[2]]:
            return f"shape {shape}, channels before positions"
    return ""


def _by_heads(path, name, shape):
    """Whether what a module within attention gives has an axis of heads, by its class and shape."""
    module, (_, a, b, c) = path[-1], shape
    heads = getattr(path[-2], "num_heads", None) if len(path) > 1 else None
    if isinstance(module, _CHANNELS_FIRST):
        return a == heads
    if isinstance(module, nn.Linear):
        return c == heads
    normalised = re.search(r"(^|\.)([qkv]_norm|norm_[qkv])$", name)
    return bool(normalised) or (a == heads and (b == c or a != b)) or (c == heads and a == b)


def _on_their_grid(path, tokens, size, refuse):
    """Tokens (N, T, D), row by row, as volumes (N, D, h, w)."""
    n_tokens, told = tokens.shape[1], _nearest(path, "num_prefix_tokens")
    # Some blocks come before the class token is put in front, whatever the network tells.
    prefixes = [0, 1] if told is None else [told, 0]
    if any("PatchEmbed" in type(module).__name__ for module in path):
        prefixes.sort()
    for n_prefix in prefixes:
        n_grid = max(n_tokens - n_prefix, 0)
        height = math.isqrt(n_grid * size[0] // size[1])
        width = n_grid // height if height else 0
        fits = height and height * width == n_grid and height * size[1] == width * size[0]
        if fits and (n_tokens > 1 or not told):
            return tokens[:, n_prefix:].transpose(1, 2).unflatten(2, (height, width))
    prefix = "one or no class token" if told is None else f"{told} tokens before it, or none"
    return refuse(
        f"{n_tokens} tokens",
        f"a grid with the aspect ratio of the image ({size[0]} x {size[1]} pixels), with {prefix} "
        "(a network tells how many in its attribute num_prefix_tokens)",
    )


def _channels_last(path, shape, size, refuse):
    """Whether an output (N, a, b, c) is (N, H, W, C): by class, then shape, then layers."""
    module, (_, a, b, c), (height, width) = path[-1], shape, size
    if isinstance(module, _CHANNELS_FIRST):
        return False
    swin = any("Swin" in kind for kind in _kinds(path))
    told = swin or _nearest(path, "output_fmt") == "NHWC"
    if not swin and not any(map(model_classes, path)):
        return told
    # Where sides are no multiples of one another, maps may be a row or two off.
    slack = 0 if height == width else 2 * max(size)
    first, last = abs(a * width - b * height) <= slack, abs(b * width - c * height) <= slack
    of_a_library = type(path[0]).__module__.startswith(("timm.", "torchvision."))
    if height == width and not first and not last and (told or of_a_library):
        refuse(
            f"shape {shape}, in which no two neighbours are alike",
            "channels and, for square images, a square",
        )
    if first != last:
        return first
    if told or _is_last(module):
        return _is_last(module) or not type(module).__name__.endswith("CrStage")
    for module in reversed(path):
        kind, layers = type(module).__name__, list(module.modules())
        if kind.endswith("Stage"):
            return False
        # A block gives what it is given, an embedding something else.
        for layer in reversed(layers) if "PatchEmbed" in kind else layers:
            if isinstance(layer, _CHANNELS_FIRST) or _is_last(layer):
                return not isinstance(layer, _CHANNELS_FIRST)
    return False


def _is_last(layer):
    """Whether a layer works on the last axis; LayerNorm2d is a LayerNorm and does not."""
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "LayerNorm"


def _kinds(path):
    """Names of all classes of the modules on a path."""
    return [c.__name__ for module in path for c in type(module).__mro__]


def _nearest(path, attribute):
    """What the nearest module says that has an attribute."""
    return next((getattr(m, attribute) for m in reversed(path) if hasattr(m, attribute)), None)
