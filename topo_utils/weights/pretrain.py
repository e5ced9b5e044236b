"""The weights of the small networks are made again: `topobook pretrain`."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from topo_utils.candidates import CANDIDATES, load_candidate
from topo_utils.datasets import normalise
from topo_utils.files import check_place, replacing
from topo_utils.training import one_thread, train_classifier


def pretrain(folder, out, *, names=None, epochs=3, seed=0, n_images=None, n_jobs=-1):
    """Train candidates on Fashion-MNIST; write their weights, and the table beside them.

    Parameters
    ----------
    folder : path
        As for `fashion_mnist`.
    out : path
        Where NAME.safetensors and candidates.json go.
    names : sequence of str, optional
        Names in `CANDIDATES`, by default all.
    epochs : int
        How often each image is seen.
    seed : int
        Of the initial weights and of the order of the images.
    n_images : int, optional
        Take only the first ones of each part; by default all.
    n_jobs : int
        How many networks are trained at once, each on one core; -1 takes all cores.

    Returns
    -------
    dict
        As `candidate_table`, for these names.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    names = list(CANDIDATES if names is None else names)
    if unknown := ", ".join(name for name in names if name not in CANDIDATES):
        raise ValueError(f"no candidate {unknown}; candidates: {', '.join(CANDIDATES)}")
    out = Path(out)
    check_place(out / "candidates.json")
    parts = [[t[:n_images] for t in fashion_mnist(folder, part)] for part in ("train", "t10k")]
    workers = min(effective_n_jobs(n_jobs), len(names) or 1)
    rows = Parallel(n_jobs=workers, return_as="generator")(
        delayed(_pretrain_one)(name, out, parts, epochs, seed) for name in names
    )
    table = {}
    for name, row in zip(names, rows, strict=True):
        table[name] = row
        print(f"{name}: {row['accuracy']:.4f} in {row['seconds']} s", flush=True)
    with replacing(out / "candidates.json") as part:
        part.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return table


def _pretrain_one(name, out, parts, epochs, seed):
    """Train one network and write its weights; what the table says of them."""
    from safetensors.torch import save

    (images, labels), (test_images, test_labels) = parts
    start = time.perf_counter()
    # Channels last: the same network, up to twice as fast on a CPU.
    with one_thread(seed):
        model = load_candidate(name, pretrained=False).to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    train_classifier(model, images, labels, epochs=epochs, seed=seed, batch_size=64)
    with one_thread(), torch.inference_mode():
        found = torch.cat([model(batch).argmax(1) for batch in test_images.split(500)])
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    # One entry only: safetensors writes several in an order that changes from run to run.
    content = save(state, metadata={"made_of": f"{name}, Fashion-MNIST"})
    with replacing(out / f"{name}.safetensors") as part:
        part.write_bytes(content)
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "accuracy": round(float((found == test_labels).double().mean()), 4),
        "seed": seed,
        "epochs": epochs,
        "seconds": round(time.perf_counter() - start),
        "torch": torch.__version__,
    }


def fashion_mnist(folder, part):
    """The images of Fashion-MNIST as its authors distribute them.

    Parameters
    ----------
    folder : path
        With the files ``train-images-idx3-ubyte.gz`` and so on.
    part : {"train", "t10k"}
        The 60,000 training or the 10,000 test images.

    Returns
    -------
    images : torch.Tensor of float32, shape (N, 3, 28, 28)
        Normalised as by `topo_utils.load_images`.
    labels : torch.Tensor of int64, shape (N,)

    Raises
    ------
    ValueError
        A file that is missing or does not hold what its name says.
    """
    pixels, labels = (_read_idx(folder, part, *file) for file in (("images", 3), ("labels", 1)))
    if pixels.shape[1:] != (28, 28) or len(pixels) != len(labels):
        raise ValueError(
            f"{folder} has {pixels.shape} images and {labels.shape} labels; needed: as many of "
            "both, of 28 x 28 pixels"
        )
    images = torch.cat([normalise(p[..., None].repeat(3, axis=2), 28)[None] for p in pixels])
    return images, torch.from_numpy(labels.astype(np.int64))


def _read_idx(folder, part, kind, axes):
    """The array in a file of the idx format: bytes with that many axes."""
    file = Path(folder) / f"{part}-{kind}-idx{axes}-ubyte.gz"
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{file} cannot be read ({error}); needed: the four .gz files of Fashion-MNIST, "
            "from github.com/zalandoresearch/fashion-mnist or Debian's dataset-fashion-mnist"
        ) from error
    # Two zeros, the type (8: bytes), the number of axes; then their lengths and the values.
    shape = np.frombuffer(content, ">i4", axes, 4)
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) != 4 + 4 * axes + shape.prod():
        raise ValueError(
            f"{file} is no idx file of bytes with {axes} axes, or is cut off; needed: the file "
            "as the authors of Fashion-MNIST distribute it"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
