"""From a network and images to the Betti numbers of every block's output."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm import tqdm

from topo_utils.cubical import as_thresholds, betti_numbers
from topo_utils.datasets import check_n_images, open_images
from topo_utils.models import batch_norms, load_model, model_blocks

__all__ = ["embedding_profile"]

_NULLS = (None, "volume", "within_channels", "channel_order")


def embedding_profile(
    model,
    images,
    *,
    thresholds,
    blocks=None,
    image_size=224,
    n_images=None,
    batch_size=8,
    device="auto",
    batch_norm="eval",
    weights="pretrained",
    null=None,
    seed=0,
    progress=True,
):
    """Betti numbers of the sublevel sets of every block's output, image by image.

    Parameters
    ----------
    model : str or torch.nn.Module
        A name of `topo_utils.model_names()`, or a network of your own. A module is left as it was
        found: mode, device, buffers, hooks.
    images : str or torch.Tensor, shape (N, 3, H, W)
        A name for `topo_utils.open_images`, or normalised images, used as they are at their own
        size (`image_size` does not apply).
    thresholds : float or sequence of float, shape (T,)
        Values of eta, in units of the activations.
    blocks : sequence of str, optional
        Names of modules as in ``model.named_modules()``, by default `topo_utils.model_blocks`.
        Each must run once per forward pass and give (N, C, H, W), or (N, C), which is read as
        C x 1 x 1. The name "input" stands for the normalised image itself.
    image_size : int
        Height and width in pixels to which images of a data set are resized.
    n_images : int, optional
        How many: of a data set drawn by `seed`, of a tensor the first ones. By default all.
    batch_size : int
        Images per forward pass on an accelerator. On the CPU every image passes alone: kernels
        sum in another order in another batch, which would change an integer now and then, and
        there is little to gain. So there the result is the same for any value.
    device : str or torch.device
        "auto" takes CUDA or MPS where there is one, else the CPU.
    batch_norm : {"eval", "per_image"}
        Batch norm with its running statistics, or with those of the single image (as a network
        left in training mode and fed one image at a time would); running statistics never change.
    weights : {"pretrained", "random"}
        Of a network given by name.
    null : {None, "volume", "within_channels", "channel_order"}
        What to shuffle in every volume before it is counted, as a control: nothing; all its values
        (space and channels are lost, the distribution stays); the values of each channel (each
        channel keeps its distribution); the order of the channels, which is arbitrary, since
        permuting it with the next layer's weights leaves the network's function as it is.
    seed : int
        Of random weights, of the draw of images and of the shuffles.
    progress : bool
        Whether to show a progress bar (on stderr).

    Returns
    -------
    xarray.DataArray of int64, dims ("image", "block", "threshold", "degree")
        beta0, beta1, beta2 along "degree". Coordinates: the image's index in its data set and its
        label where it has one, block names, thresholds. Attributes (strings, so that any file
        format takes them): model, weights, dataset, image_size, batch_norm, null, device, seed
        and versions (JSON).

    Raises
    ------
    TypeError, ValueError
        Unknown names; a block that is missing, does not run, runs twice or gives something other
        than (N, C, H, W) or (N, C); images that are no finite floats; NaN or infinite activations,
        naming the block; too many images asked for.
    ConnectionError
        Weights or data that cannot be downloaded.

    See Also
    --------
    topo_utils.topological_complexity : the sum over degrees, Omega.

    References
    ----------
    Suresh et al., arXiv 2311.04592.
    """
    if batch_norm not in ("eval", "per_image"):
        raise ValueError(f"unknown batch_norm {batch_norm!r}; accepted: 'eval' and 'per_image'")
    if null not in _NULLS:
        raise ValueError(f"unknown null {null!r}; accepted: {', '.join(map(repr, _NULLS))}")
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; accepted: a whole number from 1")
    etas, _ = as_thresholds(thresholds)
    if len(etas) == 0:
        raise ValueError("there are no thresholds; accepted: one real number, or several")
    attributes = {"dataset": images if isinstance(images, str) else "tensor", "seed": str(seed)}
    if isinstance(model, str):
        attributes["model"] = model
        model = load_model(model, weights=weights, seed=seed)
    elif isinstance(model, nn.Module):
        attributes["model"] = type(model).__name__
    else:
        raise TypeError(f"model is {model!r}; accepted: the name of a network, or an nn.Module")
    attributes["weights"] = getattr(model, "weights_name", "as given")
    images, labels, indices = _open(images, image_size, n_images, seed)
    device = _choose(device)
    height, width = images[0][0].shape[-2:]
    attributes |= {
        "image_size": f"{height}x{width}",
        "batch_norm": batch_norm,
        "null": str(null),
        "device": str(device),
        "versions": json.dumps(
            {package: version(package) for package in ("topo_utils", "torch", "numpy", "numba")}
        ),
    }

    if isinstance(blocks, str):
        raise TypeError(f"blocks are {blocks!r}; accepted: a list of names, such as [{blocks!r}]")
    blocks = model_blocks(model) if blocks is None else list(blocks)
    modules = dict(model.named_modules())
    missing = [name for name in blocks if name not in modules and name != "input"]
    if missing or not blocks or len(set(blocks)) < len(blocks):
        wrong = f"no such block: {', '.join(map(str, missing))}" if missing else f"blocks: {blocks}"
        raise ValueError(
            f"{wrong}; accepted: 'input' and names in model.named_modules(), each once, such as "
            f"{', '.join(model_blocks(model)[:12]) or '(it has none)'}"
        )

    result = np.zeros((len(images), len(blocks), len(etas), 3), dtype=np.int64)
    # Batch statistics of one image, and integers that do not depend on the batch: see above.
    alone = device.type == "cpu" or batch_norm == "per_image"
    alone = alone or any(norm.running_mean is None for norm in batch_norms(model))
    step = 1 if alone else batch_size
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    with ExitStack() as stack:
        # Two of them: one reduces while the network goes on to the next block.
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=2))
        bar = stack.enter_context(
            tqdm(total=len(images), desc=attributes["model"], unit="image", disable=not progress)
        )
        stack.enter_context(_measuring(model, device, batch_norm))
        stack.enter_context(torch.inference_mode())
        pending = {}

        def reduce(name, output, first):
            """Betti numbers (N, T, 3) of outputs (N, C, H, W); `first` is its first image."""
            if not torch.isfinite(output).all():
                raise ValueError(f"NaN or infinite activations in block {name!r}")
            if null is not None:
                # One generator an image and block, so that batches make no difference.
                seeds = ([seed, first + i, *name.encode()] for i in range(len(output)))
                output = [
                    _shuffled(volume, null, np.random.default_rng(key))
                    for volume, key in zip(output, seeds, strict=True)
                ]
            return np.stack([betti_numbers(volume, etas) for volume in output])

        def record(name, output):
            if name in pending:
                raise ValueError(
                    f"block {name!r} runs more than once in a forward pass; name a module that "
                    "runs once"
                )
            # A copy: in-place layers after this block may overwrite what it gave.
            pending[name] = pool.submit(
                reduce, name, _as_volumes(name, output, len(batch)).to("cpu", copy=True), start
            )

        for name in blocks:
            if name in modules:
                hook = modules[name].register_forward_hook(
                    lambda module, inputs, output, name=name: record(name, output)
                )
                stack.callback(hook.remove)
        for start in range(0, len(images), step):
            batch = torch.stack(
                [images[i][0] for i in range(start, min(start + step, len(images)))]
            )
            if not torch.isfinite(batch).all():
                raise ValueError("images contain NaN or infinite values")
            if "input" in blocks and "input" not in modules:
                record("input", batch)
            try:
                model(batch.to(device, dtype))
            except (RuntimeError, ValueError, IndexError) as error:
                if not str(error).startswith("block "):  # it is none of ours
                    error.add_note(
                        f"while {attributes['model']} ran on images of {height} x {width} pixels "
                        f"with batch_norm={batch_norm!r}: images may be too small for it "
                        "(per-image statistics need more than one value a channel)"
                    )
                raise
            for b, name in enumerate(blocks):
                if name not in pending:
                    raise ValueError(f"block {name!r} did not run in the forward pass")
                result[start : start + len(batch), b] = pending.pop(name).result()
            bar.update(len(batch))

    profile = xr.DataArray(
        result,
        dims=("image", "block", "threshold", "degree"),
        coords={"image": indices, "block": blocks, "threshold": etas, "degree": [0, 1, 2]},
        name="betti",
        attrs=attributes,
    )
    return profile if labels is None else profile.assign_coords(label=("image", labels))


def _open(images, image_size, n_images, seed):
    """A sequence of (image, label), the labels or None, and the images' indices."""
    if isinstance(images, str):
        opened = open_images(images, image_size, n_images, seed)
        return opened, opened.labels, opened.indices
    accepted = "accepted: the name of a data set, or a float tensor (N, 3, H, W)"
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images.copy())  # any strides, and memory that may be read-only
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        kind = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"images are {kind}; {accepted}, already normalised")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images have shape {tuple(images.shape)}; {accepted}, none of them 0")
    if n_images is not None:
        check_n_images("the tensor", len(images), n_images)
    images = images.detach()[:n_images]
    return torch.utils.data.TensorDataset(images), None, np.arange(len(images))


def _choose(device):
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _as_volumes(name, output, n_images):
    """A block's output as a batch of volumes (N, C, H, W)."""
    if not isinstance(output, torch.Tensor):
        raise TypeError(f"block {name!r} gives {type(output).__name__}, not a tensor")
    if output.is_complex():
        raise TypeError(f"block {name!r} gives {output.dtype}; accepted: real numbers")
    if output.ndim not in (2, 4) or 0 in output.shape or len(output) != n_images:
        raise ValueError(
            f"block {name!r} gives shape {tuple(output.shape)}; accepted: (N, C, H, W) or (N, C), "
            f"none of them 0, N = {n_images} images"
        )
    return output[:, :, None, None] if output.ndim == 2 else output


def _shuffled(volume, null, rng):
    """A volume (C, H, W) with its values, or its channels, in another order."""
    if null == "channel_order":
        return volume[torch.from_numpy(rng.permutation(len(volume)))]
    rows = volume.flatten() if null == "volume" else volume.flatten(1)
    # Through float64, which holds every value exactly: numpy has no bfloat16.
    return rng.permuted(rows.double().numpy(), axis=-1).reshape(volume.shape)


@contextmanager
def _measuring(model, device, batch_norm):
    """The network in eval mode on `device`; afterwards as it was, whatever happened."""
    modules = list(model.modules())
    training = [module.training for module in modules]
    norms = batch_norms(model)
    tracking = [norm.track_running_stats for norm in norms]
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        model.to(device).eval()
        if batch_norm == "per_image":
            for norm in norms:
                # Statistics of what comes in, while the running ones are neither read nor written.
                norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked
        model.to(home)
