"""Networks run on images in a copy of their own, and their blocks' outputs read as volumes."""

from __future__ import annotations

import copy
import math
import re
import types
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn

from topo_utils.models import batch_norms, input_size, model_blocks, unwrapped, wrapped

__all__ = [
    "add_hooks",
    "as_volumes",
    "block_shapes",
    "check_device",
    "copied",
    "floating_dtype",
    "hooked",
    "likely_cause",
    "module_path",
]

# ---------------------------------------------------------------------------------------------
# What a block gives, as volumes.


def as_volumes(network, name, output, size, n_images=None):
    """A block's output as a batch of volumes.

    The module that gives it decides, wherever it sits, and what is around that: the nearest that
    tells it. timm's attributes ``num_prefix_tokens`` (class and register tokens before those of the
    grid) and ``output_fmt`` ("NHWC": channels last) are heeded on any module.

    Parameters
    ----------
    network : torch.nn.Module
        Whose block it is.
    name : str
        Of the block.
    output : torch.Tensor, or a tuple or list with one tensor in it
        (N, C, H, W); (N, C), which is read as C x 1 x 1; the tokens (N, T, D) of a transformer, put
        back on their grid as D x h x w, with the aspect ratio of the image and without the prefix
        (where no module tells, one class token or none, as T allows); or (N, H, W, C) of modules
        with channels last: those that say so and, of timm's and torchvision's networks, those whose
        two axes with the aspect ratio of the image come first.
    size : (int, int)
        Height and width of the images.
    n_images : int, optional
        How many there are; another number of volumes is refused (windows of an image, for example).

    Returns
    -------
    torch.Tensor, shape (N, C, H, W)

    Raises
    ------
    TypeError, ValueError
        Anything else; the message names the block.
    """
    if isinstance(output, tuple | list):
        tensors = [part for part in output if isinstance(part, torch.Tensor)]
        if len(tensors) != 1:
            raise TypeError(
                f"block {name!r} gives a {type(output).__name__} with {len(tensors)} tensors; "
                "accepted: one tensor. Name a module inside it"
            )
        (output,) = tensors
    if not isinstance(output, torch.Tensor):
        raise TypeError(
            f"block {name!r} gives {type(output).__name__}, not a tensor; accepted: one tensor. "
            "Name a module inside it"
        )
    told = [f"{output.dtype}".removeprefix("torch.")]
    told += ["nested"] * output.is_nested + ["without values"] * output.is_meta
    told += [f"{output.layout}"] * (output.layout != torch.strided)
    if told[1:] or output.is_complex() or output.is_quantized or "float8" in told[0]:
        raise TypeError(
            f"block {name!r} gives a tensor of {', '.join(told)}; accepted: dense tensors of real "
            "numbers, floating-point ones of 16 bits or more"
        )
    if output.ndim not in (2, 3, 4) or 0 in output.shape:
        raise ValueError(
            f"block {name!r} gives shape {tuple(output.shape)}; accepted: (N, C, H, W), (N, C) or "
            "tokens (N, T, D), none of them 0"
        )
    if n_images is not None and len(output) != n_images:
        raise ValueError(
            f"block {name!r} gives shape {tuple(output.shape)}; accepted: the images first, "
            f"here {n_images}"
        )
    if output.ndim == 2:
        return output[:, :, None, None]
    path = module_path(network, name) or [network]
    _check_order(path, name, output)
    if output.ndim == 3:
        return _on_their_grid(path, name, output, size)
    return output.permute(0, 3, 1, 2) if _channels_last(path, name, output, size) else output


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

# Of timm and torchvision: children, by class, whose outputs with three or four axes look like
# tokens or maps, row by row, and are not. They have windows in an axis of their own, channels in
# the place of tokens, states, or positions that are none of the image.
_OTHER_ORDERS = {
    3: {
        "MixerBlock": "mlp_tokens",
        "ResBlock": "linear_tokens",
        "SpatialGatingUnit": "proj",
        "EfficientAttention": "k v",  # of which there are fewer, after a pool along rows
        "EfficientViM": "norm",
    },
    4: {
        "PartitionAttentionLayer": (
            "partition_op partition_swap attn_layer mlp_layer stochastic_dropout departition_swap"
        ),
        "NestLevel": "transformer_encoder",
        "WindowAttention": "cpb_mlp",
        "ShiftedWindowAttention": "cpb_mlp",
        "LiteMLA": "kernel_func",
        "CoaT": "crpe1 crpe2 crpe3 crpe4",
    },
}


def _check_order(path, name, output):
    """Refuse an output of three or four axes of which it is known that it is no volume."""
    shape, wrong = tuple(output.shape), None
    # All Hieras (those of transformers, too), but not HieraDet, the one of SAM 2.
    if any(re.match("Hiera(?!Det|r)", c.__name__) for m in path for c in type(m).__mro__):
        wrong = "tokens" if len(shape) == 3 else None
    for outer, inner in pairwise(path):
        orders = _OTHER_ORDERS[len(shape)]
        children = " ".join(orders.get(c.__name__, "") for c in _library_classes(outer)).split()
        maps = len(shape) == 4 and isinstance(path[-1], _CHANNELS_FIRST)
        if maps or getattr(outer, "sr", True) is None:  # where nothing is pooled
            children = []
        if any(inner is outer._modules.get(child) for child in children):
            wrong = f"shape {shape}"
    if wrong:
        wrong += " in an order of its own, not row by row"
    elif len(shape) == 4 and _by_heads(path, name, shape):
        wrong = f"shape {shape}, an axis of which are the heads of attention"
    elif len(shape) == 3 and shape[1] > 1:
        rows = [m for m in path[-1].modules() if isinstance(m, nn.Conv1d | nn.BatchNorm1d)][-1:]
        channels = [getattr(m, "out_channels", getattr(m, "num_features", 0)) for m in rows]
        if isinstance(path[-1], _CHANNELS_FIRST) or channels == [shape[1]] != [shape[2]]:
            wrong = f"shape {shape}, channels before positions"
    if wrong:
        raise ValueError(
            f"block {name!r} gives {wrong}; accepted: volumes, and tokens row by row. Name another "
            "module, such as one around it"
        )


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


def _on_their_grid(path, name, tokens, size):
    """Tokens (N, T, D), row by row, as volumes (N, D, h, w)."""
    n_tokens = tokens.shape[1]
    told = _told(path, "num_prefix_tokens")
    # Some blocks come before the class token is put in front, whatever the network tells.
    prefixes = [0, 1] if told is None else [told, 0]
    if any("PatchEmbed" in type(module).__name__ for module in path):
        prefixes.sort()
    for n_prefix in prefixes:
        height = math.isqrt((n_tokens - n_prefix) * size[0] // size[1])
        width = (n_tokens - n_prefix) // height if height else 0
        fits = height * width == n_tokens - n_prefix and height * size[1] == width * size[0]
        if fits and height and (n_tokens > 1 or not told):
            grid = tokens[:, n_prefix:].transpose(1, 2)
            return grid.reshape(len(tokens), tokens.shape[2], height, width)
    prefix = "one or no class token" if told is None else f"{told} tokens before it, or none"
    raise ValueError(
        f"block {name!r} gives {n_tokens} tokens; accepted: a grid with the aspect ratio of the "
        f"image ({size[0]} x {size[1]} pixels), with {prefix} (a network tells how many in its "
        "attribute num_prefix_tokens)"
    )


def _channels_last(path, name, output, size):
    """Whether an output (N, a, b, c) is (N, H, W, C)."""
    module = path[-1]
    if isinstance(module, _CHANNELS_FIRST):
        return False
    told = _told(path, "output_fmt") == "NHWC"
    swin = any("Swin" in c.__name__ for m in path for c in type(m).__mro__)
    if not swin and not any(_library_classes(m) for m in path):
        return told
    _, a, b, c = output.shape
    # Where sides are no multiples of one another, maps may be a row or two off.
    slack = 0 if size[0] == size[1] else 2 * max(size)
    first = abs(a * size[1] - b * size[0]) <= slack
    last = abs(b * size[1] - c * size[0]) <= slack
    told = told or swin
    of_a_library = type(path[0]).__module__.startswith(("timm.", "torchvision."))
    if size[0] == size[1] and not first and not last and (told or of_a_library):
        raise ValueError(
            f"block {name!r} gives shape {tuple(output.shape)}, in which no two neighbours are "
            "alike; accepted: channels and, for square images, a square"
        )
    return first if first != last else _by_layers(path, told)


def _by_layers(path, told):
    """Whether channels are last, where shapes do not tell, by the layers of a module."""
    if _is_last(path[-1]):
        return True
    if told:
        return not type(path[-1]).__name__.endswith("CrStage")
    for module in reversed(path):
        name = type(module).__name__
        if name.endswith("Stage"):
            return False
        layers = list(module.modules())
        # A block gives what it is given, an embedding something else.
        for layer in reversed(layers) if "PatchEmbed" in name else layers:
            if isinstance(layer, _CHANNELS_FIRST):
                return False
            if _is_last(layer):
                return True
    return False


def _is_last(layer):
    """Whether a layer works on the last axis; LayerNorm2d is a LayerNorm and does not."""
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "LayerNorm"


def _library_classes(module):
    """The classes of timm's and torchvision's networks among those of a module."""
    models = ("timm.models.", "torchvision.models.")
    return [c for c in type(module).__mro__ if c.__module__.startswith(models)]


def _told(path, attribute):
    """What the nearest module says that has an attribute."""
    return next((getattr(m, attribute) for m in reversed(path) if hasattr(m, attribute)), None)


# ---------------------------------------------------------------------------------------------
# Networks that run, with hooks on their blocks.


def module_path(network, name):
    """The modules from a network down to the one of a name, both included.

    Parameters
    ----------
    network : torch.nn.Module
        With or without wrappers, around it or within.
    name : str
        As in ``network.named_modules()``, with or without the words that wrappers put in: of a
        compiled network ``_orig_mod.layer1`` is ``layer1``, too.

    Returns
    -------
    list of torch.nn.Module
        Empty if there is no such module.
    """
    path = [network]
    for part in name.split(".") if name else ():
        while part not in path[-1]._modules and (inner := wrapped(path[-1])) is not None:
            path.append(inner)
        if part in path[-1]._modules and path[-1]._modules[part] is not None:
            path.append(path[-1]._modules[part])
        elif part not in ("module", "_orig_mod"):
            return []
    return path


def add_hooks(network, names, take):
    """Have ``take(name, output)`` called with every named block's output; hooks to be removed.

    A name of no module is passed over.
    """
    hooks = []
    for name in names:
        path = module_path(network, name)
        if any(isinstance(module, torch.jit.ScriptModule) for module in path):
            raise TypeError(
                f"block {name!r} is TorchScript, which does not show what its modules give; "
                "accepted: the torch.nn.Module that it was made from"
            )

        def hand_over(module, inputs, output, name=name):
            take(name, output)

        if path:  # after the user's own hooks, which may have put another output in its place
            hooks.append(path[-1].register_forward_hook(hand_over))
    return hooks


@contextmanager
def hooked(network, names, take):
    """While it lasts, ``take(name, output)`` is called with every named block's output."""
    hooks = add_hooks(network, names, take)
    try:
        yield network
    finally:
        for hook in hooks:
            hook.remove()


def copied(network, device="cpu", batch_norm="eval"):
    """A copy of a network to be run, in eval mode.

    Threads each need their own (modules may keep things in attributes while they run), and the
    given one stays as it was. On the same device it has the same parameters in memory. What is
    compiled runs as the modules from which it was compiled, whose blocks can be seen.

    Parameters
    ----------
    network : torch.nn.Module
        It is left as it was found.
    device : str or torch.device
        Where the copy is to run.
    batch_norm : {"eval", "per_image"}
        As for `topo_utils.embedding_profile`.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    TypeError, ValueError
        A network that cannot be copied, or has no weights here; no such device.
    """
    device, kind = check_device(device), type(network).__name__
    tensors = [*network.parameters(), *network.buffers()]
    lazy = torch.nn.parameter.UninitializedTensorMixin
    if any(isinstance(tensor, lazy) or tensor.is_meta for tensor in tensors):
        raise ValueError(
            f"{kind} has parameters without values (lazy modules, or the device 'meta'); accepted: "
            "a network with weights, such as one that has run once, or has loaded a checkpoint"
        )
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())
    if scripted and batch_norm == "per_image":
        raise ValueError(
            f"{kind} has TorchScript in it, whose batch norm cannot be changed; accepted: "
            "batch_norm='eval', or the torch.nn.Module that it was made from"
        )
    here = all(p.device == device for p in network.parameters())
    memo = {id(p): p for p in network.parameters()} if here else {}
    # Autograd's results, which deepcopy refuses, are among the tensors in attributes.
    loose = (t for module in network.modules() for t in _tensors(vars(module)))
    memo |= {id(t): t.detach().clone() for t in loose}
    try:
        made = copy.deepcopy(network, memo)
    except Exception as error:  # whatever code of the user's own may raise
        raise TypeError(
            f"{kind} cannot be copied ({error}), which a profile needs: every core works on its "
            "own; accepted: a network that copy.deepcopy copies"
        ) from error
    for module in made.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        _make_own(vars(module), memo)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            _make_own(hooks, memo)
        module._compiled_call_impl = None
        if (inner := wrapped(module)) is not None:
            vars(module)["forward"] = inner.__call__
    made.to(device)
    made.eval()
    if batch_norm == "per_image":
        for norm in batch_norms(made):
            # Statistics of what comes in, while the running ones are neither read nor written.
            norm.training, norm.track_running_stats = True, False
    return made


def _tensors(value):
    """The tensors in a value and in the containers in it, buffers too, but no parameters."""
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _make_own(functions, memo):
    """Have the functions in a dict refer to the copies of the modules that they refer to."""
    for name, function in functions.items():
        functions[name] = _own(function, memo)


def _own(value, memo):
    if isinstance(value, nn.Module):
        return memo.get(id(value), value)
    if isinstance(value, types.MethodType):
        return types.MethodType(value.__func__, _own(value.__self__, memo))
    if not isinstance(value, types.FunctionType) or not value.__closure__:
        return value
    if id(value) not in memo:
        memo[id(value)] = value  # it may refer to itself
        cells = tuple(_own_cell(cell, memo) for cell in value.__closure__)
        if any(cell is not given for cell, given in zip(cells, value.__closure__, strict=True)):
            code, names, defaults = value.__code__, value.__globals__, value.__defaults__
            memo[id(value)] = types.FunctionType(code, names, value.__name__, defaults, cells)
            memo[id(value)].__kwdefaults__ = value.__kwdefaults__
    return memo[id(value)]


def _own_cell(cell, memo):
    try:
        content = cell.cell_contents
    except ValueError:  # nothing is in it yet
        return cell
    own = _own(content, memo)
    # One that need not change stays the user's, who may count in it.
    same = own == content if isinstance(own, types.MethodType) else own is content
    return cell if same else types.CellType(own)


def check_device(device):
    """The torch.device of a name, where it is there.

    Parameters
    ----------
    device : str, int or torch.device
        As torch takes it.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        It is not there; the message names those that are.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is not None and found.type == "cpu":
        return torch.device("cpu")  # whatever its number
    if found is not None and (found.index or 0) < _count(found.type):
        return found
    there = [kind for kind in ("cpu", "cuda", "mps", "xpu") if _count(kind)]
    there += [f"cuda:{i}" for i in range(_count("cuda"))]
    raise ValueError(
        f"there is no device {str(device)!r} here; accepted: 'auto', {', '.join(map(repr, there))}"
    )


def _count(kind):
    """How many devices of a kind there are; torch has a module for each kind."""
    return getattr(getattr(torch, kind, None), "device_count", lambda: 0)()


def floating_dtype(network):
    """What a network computes in."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


_CAUSES = {
    r"kernel size can't be|output size is too small|more than 1 (value|spatial)|padding size should"
    r"|pad should be|for input, but got.* 0[,\]]": (
        "images may be too small for it (per-image statistics need more than one value a channel)"
    ),
    r"shapes cannot be multiplied|doesn't match model|(input|image) (height|width)|size of tensor a"
    r"|sizes of tensors must|normalized_shape|invalid for input of size": (
        "it may take images of a size of its own only"
    ),
    r"expected input.* to have \d+ channels": "it may not be made for images of three channels",
    r"type .*should be the same|same dtype|expected scalar type|mixed dtype": (
        "its weights may be of several types; images have that of the first"
    ),
}


def likely_cause(error):
    """In words, why a network that ran on images raised an error; "" if that is not known.

    Parameters
    ----------
    error : Exception
        As torch raised it, or timm, or torchvision.

    Returns
    -------
    str
    """
    found = (why for words, why in _CAUSES.items() if re.search(words, str(error), re.I | re.S))
    return next(found, "")


def block_shapes(model, image_size=None, blocks=None):
    """Which blocks of a network a profile can measure, and the shapes of their volumes.

    One image of noise passes a copy of the network.

    Parameters
    ----------
    model : torch.nn.Module
        It is left as it was found.
    image_size : int, optional
        Height and width of the image in pixels; by default what the network was made for.
    blocks : sequence of str, optional
        Names of modules, by default `topo_utils.model_blocks`. By default a vector that comes out
        beside volumes is left out: what is counted in it depends only on the order of its entries.

    Returns
    -------
    shapes : dict of str to (int, int, int)
        Channels, height and width by block, in the order in which the blocks run.
    left_out : dict of str to str
        Why another of the blocks cannot be measured.

    Raises
    ------
    TypeError, ValueError
        The network cannot be copied, or does not take an image of three channels and this size; a
        name of no module.
    """
    model = unwrapped(model)
    size = input_size(model) if image_size is None else image_size
    names = model_blocks(model) if blocks is None else list(blocks)
    if missing := [name for name in names if not module_path(model, name)]:
        raise ValueError(
            f"no such block: {', '.join(missing)}; accepted: names in model.named_modules()"
        )
    runs, shapes, left_out = dict.fromkeys(names, 0), {}, {}

    def look(name, output):
        runs[name] += 1
        try:
            shapes[name] = tuple(as_volumes(model, name, output, (size, size), 1).shape[1:])
        except (TypeError, ValueError) as error:
            left_out[name] = str(error).removeprefix(f"block {name!r} ")

    noise = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    with hooked(copied(model), names, look) as network, torch.inference_mode():
        try:
            network(noise.to(floating_dtype(network)))
        # Whatever code of the user's own may raise; a network in eval mode has no other business.
        except Exception as error:
            cause = likely_cause(error)
            raise ValueError(
                f"{type(model).__name__} does not take an image of 3 x {size} x {size}: "
                f"{type(error).__name__}: {error}{f' ({cause})' if cause else ''}; accepted: a "
                "network that takes one normalised RGB image in eval mode"
            ) from error
    for name, count in runs.items():
        if count != 1:
            left_out[name] = f"runs {count} times in a forward pass" if count else "does not run"
    if blocks is None and any(shape[1:] != (1, 1) for shape in shapes.values()):
        vectors = [name for name, shape in shapes.items() if shape[1:] == (1, 1)]
        left_out |= dict.fromkeys(vectors, "gives a vector, not a volume")
    return {name: shapes[name] for name in shapes if name not in left_out}, left_out
