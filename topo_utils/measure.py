"""One image through a network, and the Betti numbers of what every block gives for it."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from topo_utils import store
from topo_utils.blocks import batch_norms, block_outputs, module_path, tensors_in, unwrapped
from topo_utils.models import input_size, model_blocks
from topo_utils.training import set_threads
from topo_utils.unchanged import weights_of
from topo_utils.volumes import as_volumes

#: What may be shuffled in every volume before it is counted.
NULLS = (None, "volume", "within_channels", "channel_order")

_ACCELERATOR = threading.Lock()  # one thread at a time on the device; the others count meanwhile
_OPENING = threading.Lock()


class Plan(NamedTuple):
    """What is done with every image."""

    model: str  # its name, for messages
    blocks: tuple
    etas: list
    batch_norm: str
    null: str | None
    seed: int
    device: torch.device
    batch_size: int

    def said(self, start, size):
        """What of it the integers of the images from `start` on follow from."""
        shuffles = (self.null, self.seed, start) if self.null else None  # they go by position
        device = (str(self.device), self.batch_size) if self.device.type != "cpu" else "cpu"
        return self.blocks, self.etas, self.batch_norm, shuffles, device, size


class Rows:
    """Images of a tensor (N, 3, H, W), which may be those from `first` on, like a data set's."""

    name, labels = "the tensor", None

    def __init__(self, tensor, first=0):
        self.tensor, self.first = tensor, first
        self.indices, self.size = np.arange(first + len(tensor)), tuple(tensor.shape[-2:])

    def part(self, first, stop):
        """A few of them, for another process: a view would take all along."""
        return Rows(self.tensor[first:stop].clone(), first)

    def content(self, i):
        """Image `i`, of which nothing else is to be known."""
        return self.tensor[i - self.first]

    def __getitem__(self, i):
        return self.content(i), -1


class Named(NamedTuple):
    """A network or images, opened by name."""

    function: Callable
    arguments: tuple
    keywords: tuple = ()
    digest: str = ""  # of the network's weights, or of the images

    def open(self):
        return self.function(*self.arguments, **dict(self.keywords))


@functools.lru_cache(maxsize=2)  # of one call of embedding_profile: its network and its images
def _open_there(named):
    opened = named.open()
    if isinstance(opened, nn.Module) and store.digest(*weights_of(opened)) != named.digest:
        raise ValueError(
            f"{named.arguments[0]} has different weights on another machine; accepted: the same "
            "libraries and files of weights on all"
        )
    return opened


def own_thread():
    """An executor with one new thread, where nothing that belongs to the thread that asks plays a
    part: autocast, the default device, modes of torch, whether denormal numbers are taken for zero.
    Torch has one thread for it: with more, sums depend on their number.
    """

    def settle():
        torch.set_flush_denormal(False)  # a thread takes it over from the one that starts it
        set_threads(1)

    return ThreadPoolExecutor(1, initializer=settle)


def outputs_digest(network, images, plan):
    """Digest of the outputs of blocks for the first image; "" where the network does not run.

    It stands for what cannot be seen from outside: functions of installed libraries that were
    replaced, settings. That of a network that draws random numbers differs every time, so that no
    profile of it is ever taken for another.
    """
    # The device may be one that only other machines have.
    for place in dict.fromkeys([plan.device, torch.device("cpu")]):
        digests = []

        def take(name, output, digests=digests):
            digests.append(f"{name} {store.digest(*tensors_in(output))}")

        # Whatever is wrong, the profile itself will say so.
        options = {"device": place, "batch_norm": plan.batch_norm}
        with suppress(Exception), block_outputs(network, plan.blocks, take, **options) as run:
            run(images[0][0][None])
            return store.digest(place.type, *digests)
    return ""


def count_images(network, images, stop, positions, contents, plan):
    """Betti numbers (N, L, T, 3) of the blocks' volumes of the images at some positions.

    `contents` are digests of what these images were when the run began. Of other processes `stop`
    is None; where it is set, nothing is counted any more, and None is returned.
    """
    from topo_utils.cubical import betti_numbers

    with _OPENING:
        network, images = (
            _open_there(one) if isinstance(one, Named) else one for one in (network, images)
        )
    turn = _ACCELERATOR if plan.device.type != "cpu" else threading.Lock()
    found, result = {}, []

    def take(name, output):
        """Count a block's output at once: layers that work in place may overwrite it later."""
        if name in found:
            raise ValueError(
                f"block {name!r} runs more than once in a forward pass; name a module that "
                "runs once"
            )
        volumes = as_volumes(network, name, output, tuple(batch.shape[-2:]), len(batch))
        if not torch.isfinite(volumes).all():
            raise ValueError(f"NaN or infinite activations in block {name!r}")
        # One generator an image and block, so that batches make no difference.
        seeds = ([plan.seed, position, *name.encode()] for position in where)
        volumes = [
            shuffled(volume, plan.null, seed)
            for volume, seed in zip(volumes.to("cpu"), seeds, strict=True)
        ]
        turn.release()
        try:
            found[name] = np.stack([betti_numbers(volume, plan.etas) for volume in volumes])
        finally:
            turn.acquire()

    # Statistics of one image, and integers that do not depend on the batch: kernels of the CPU sum
    # in another order in another batch, and there is little to gain.
    alone = plan.device.type == "cpu" or plan.batch_norm == "per_image"
    alone = alone or any(norm.running_mean is None for norm in batch_norms(network))
    step, options = 1 if alone else plan.batch_size, {"batch_norm": plan.batch_norm}
    with block_outputs(network, plan.blocks, take, device=plan.device, **options) as run:
        for start in range(0, len(positions), step):
            if stop is not None and stop.is_set():
                return None
            where = positions[start : start + step]
            batch = _batch(images, where, contents[start : start + step])
            try:
                with turn, torch.inference_mode():
                    if "input" in plan.blocks and "input" not in dict(network.named_children()):
                        take("input", batch)
                    run(batch)
            except (RuntimeError, ValueError, IndexError, AssertionError) as error:
                if not re.search(r"\bblock '", str(error)):  # it is none of ours
                    cause = likely_cause(error)
                    error.add_note(
                        f"while {plan.model} ran on images of {batch.shape[-2]} x "
                        f"{batch.shape[-1]} pixels with batch_norm={plan.batch_norm!r}"
                        f"{cause and ': '}{cause}"
                    )
                raise
            for name in plan.blocks:
                if name not in found:
                    raise ValueError(f"block {name!r} did not run in the forward pass")
            result.append(np.stack([found.pop(name) for name in plan.blocks], axis=1))
    return np.concatenate(result)


def _batch(images, positions, contents):
    """Images as a tensor (N, 3, H, W), where they still are what they were."""
    batch = torch.stack([images[i][0] for i in positions])
    for i, expected in zip(positions, contents, strict=True):
        # Else the integers of what came in its place would be kept as its own.
        if store.digest(images.content(i)) != expected:
            raise ValueError(
                f"image {images.indices[i]} of {images.name} is not what it was when the run "
                "began, or differs where it is read; accepted: images that stay as they are until "
                "it is done"
            )
    if not torch.isfinite(batch).all():
        raise ValueError("images contain NaN or infinite values")
    return batch


def shuffled(volume, null, seed):
    """A volume (C, H, W) with its values, or its channels, in a random order (see `NULLS`)."""
    if null is None:
        return volume
    rng = np.random.default_rng(seed)
    if null == "channel_order":
        return volume[torch.from_numpy(rng.permutation(len(volume)))]
    rows = volume.flatten() if null == "volume" else volume.flatten(1)
    # Through float64, which holds every value exactly: numpy has no bfloat16.
    return rng.permuted(rows.double().numpy(), axis=-1).reshape(volume.shape)


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
    """In words, why a network that ran on images raised an error of torch, timm or torchvision; ""
    if that is not known.
    """
    found = (why for words, why in _CAUSES.items() if re.search(words, str(error), re.I | re.S))
    return next(found, "")


def block_shapes(model, image_size=None, blocks=None):
    """Which blocks of a network a profile can measure, and the shapes of their volumes.

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
    with block_outputs(model, names, look) as run:
        try:
            run(noise)
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
