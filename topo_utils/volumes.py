"""What a block puts out, read as volumes channels x height x width."""

from __future__ import annotations

import copy
import math

import torch

from topo_utils.models import input_size, model_blocks

__all__ = ["as_volumes", "block_shapes", "floating_dtype"]


def as_volumes(network, name, output, size):
    """A block's output as a batch of volumes.

    Parameters
    ----------
    network : torch.nn.Module
        Whose block it is. timm's attributes ``num_prefix_tokens`` (class and register tokens before
        those of the grid) and ``output_fmt`` ("NHWC": channels last) are heeded on any network.
    name : str
        Of the block, for messages.
    output : torch.Tensor, or a tuple or list with one tensor in it
        (N, C, H, W); (N, C), which is read as C x 1 x 1; the tokens (N, T, D) of a transformer, put
        back on their grid as D x h x w, with the aspect ratio of the image and without the prefix
        (where a network does not tell, one class token or none, as T allows); or (N, H, W, C) of
        networks with channels last: those that say so and, of timm's and torchvision's, those whose
        two axes with the aspect ratio of the image come first.
    size : (int, int)
        Height and width of the images.

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
        raise TypeError(f"block {name!r} gives {type(output).__name__}, not a tensor")
    if output.is_complex():
        raise TypeError(f"block {name!r} gives {output.dtype}; accepted: real numbers")
    if output.ndim not in (2, 3, 4) or 0 in output.shape:
        raise ValueError(
            f"block {name!r} gives shape {tuple(output.shape)}; accepted: (N, C, H, W), (N, C) or "
            "tokens (N, T, D), none of them 0"
        )
    if output.ndim == 2:
        return output[:, :, None, None]
    if output.ndim == 3:
        return _on_their_grid(network, name, output, size)
    return output.permute(0, 3, 1, 2) if _channels_last(network, name, output, size) else output


def _on_their_grid(network, name, tokens, size):
    """Tokens (N, T, D), row by row, as volumes (N, D, h, w)."""
    if type(network).__name__ == "Hiera":
        raise ValueError(f"block {name!r} gives tokens in an order of its own, not row by row")
    n_tokens = tokens.shape[1]
    told = getattr(network, "num_prefix_tokens", None)
    # Some blocks come before the class token is put in front, whatever the network tells.
    for n_prefix in (0, 1) if told is None else (told, 0):
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


def _channels_last(network, name, output, size):
    """Whether an output (N, a, b, c) is (N, H, W, C)."""
    told = getattr(network, "output_fmt", None) == "NHWC" or "Swin" in type(network).__name__
    if type(network).__module__.partition(".")[0] not in ("timm", "torchvision"):
        return told
    _, a, b, c = output.shape
    first, last = a * size[1] == b * size[0], b * size[1] == c * size[0]
    if size[0] == size[1] and not first and not last:
        raise ValueError(
            f"block {name!r} gives shape {tuple(output.shape)}, in which no two neighbours are "
            "alike; accepted: channels and, for square images, a square"
        )
    return first if first != last else told


def floating_dtype(network):
    """What a network computes in."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def block_shapes(model, image_size=None, blocks=None):
    """Which blocks of a network a profile can measure, and the shapes of their volumes.

    One image of noise passes a copy of the network.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU; it is left as it was found.
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
    ValueError
        The network does not take an image of three channels and this size; a name of no module.
    """
    size = input_size(model) if image_size is None else image_size
    names = model_blocks(model) if blocks is None else list(blocks)
    network = copy.deepcopy(model).cpu().eval()
    modules = dict(network.named_modules())
    if missing := [name for name in names if name not in modules]:
        raise ValueError(
            f"no such block: {', '.join(missing)}; accepted: names in model.named_modules()"
        )
    runs, shapes, left_out = dict.fromkeys(names, 0), {}, {}

    def look(name, output):
        runs[name] += 1
        try:
            shapes[name] = tuple(as_volumes(network, name, output, (size, size)).shape[1:])
        except (TypeError, ValueError) as error:
            left_out[name] = str(error).removeprefix(f"block {name!r} ")

    for name in names:
        modules[name].register_forward_hook(
            lambda module, inputs, output, name=name: look(name, output)
        )
    noise = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            network(noise.to(floating_dtype(network)))
    # Whatever code of the user's own may raise; a network in eval mode has no other business.
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} does not take an image of 3 x {size} x {size}: {error}; "
            "accepted: a network of RGB images (wrap another one), and a size that it can work on"
        ) from error
    for name, count in runs.items():
        if count != 1:
            left_out[name] = f"runs {count} times in a forward pass" if count else "does not run"
    if blocks is None and any(shape[1:] != (1, 1) for shape in shapes.values()):
        vectors = [name for name, shape in shapes.items() if shape[1:] == (1, 1)]
        left_out |= dict.fromkeys(vectors, "gives a vector, not a volume")
    return {name: shapes[name] for name in shapes if name not in left_out}, left_out
