"""Nine small networks, pretrained on Fashion-MNIST, that come with the package as weights.

They are the candidates of the chapter on ranking: four families (residual, plain, depthwise, dense)
of different depths, small enough to be fine-tuned on a CPU in seconds. ``topobook pretrain`` makes
their weights again from the images of Fashion-MNIST.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import nn

from topo_utils.datasets import normalise
from topo_utils.files import check_place, replacing
from topo_utils.training import one_thread, train_classifier

__all__ = [
    "CANDIDATES",
    "Candidate",
    "candidate_table",
    "fashion_mnist",
    "load_candidate",
    "pretrain",
]

_WEIGHTS = files("topo_utils") / "weights"


def _norm(channels):
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _conv(inputs, outputs, size=3, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class _Residual(nn.Module):
    """Two convolutions and a shortcut, as in ResNet (He et al., 2016)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, outputs, stride=stride),
            *_norm(outputs),
            _conv(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class _Dense(nn.Module):
    """A convolution whose output is appended to its input, as in DenseNet (Huang et al., 2017)."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.body = nn.Sequential(*_norm(inputs), _conv(inputs, growth))

    def forward(self, x):
        return torch.cat([x, self.body(x)], dim=1)


def _residual(inputs, outputs, stride):
    return _Residual(inputs, outputs, stride)


def _plain(inputs, outputs, stride):
    return nn.Sequential(_conv(inputs, outputs, stride=stride), *_norm(outputs))


def _depthwise(inputs, outputs, stride):
    """A convolution by channel, then one across channels (MobileNet, Howard et al., 2017)."""
    return nn.Sequential(
        _conv(inputs, inputs, stride=stride, groups=inputs),
        *_norm(inputs),
        _conv(inputs, outputs, 1),
        *_norm(outputs),
    )


class Candidate(nn.Module):
    """A stem, blocks and a linear head on the average over the picture.

    Parameters
    ----------
    family : {"residual", "plain", "depthwise", "dense"}
        What a block is.
    width : int
        Channels of the stem (for "dense": twice the growth of a block).
    stages : sequence of int
        Blocks in each stage; every stage after the first has half the resolution and, but for
        "dense", twice the channels.
    classes : int
        Outputs of the head.
    """

    def __init__(self, family, width, stages, classes=10):
        super().__init__()
        self.stem = nn.Sequential(_conv(3, width, stride=1), *_norm(width))
        blocks, channels = [], width
        for stage, depth in enumerate(stages):
            if family == "dense":
                if stage > 0:
                    blocks.append(nn.Sequential(nn.AvgPool2d(2), _conv(channels, channels // 2, 1)))
                    channels //= 2
                for _ in range(depth):
                    blocks.append(_Dense(channels, width // 2))
                    channels += width // 2
                continue
            make = {"residual": _residual, "plain": _plain, "depthwise": _depthwise}[family]
            for i in range(depth):
                outputs = width * 2**stage
                blocks.append(make(channels, outputs, 2 if stage > 0 and i == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(*(_norm(channels) if family == "dense" else []))
        self.head = nn.Linear(channels, classes)

    def features(self, images):
        """What the head sees, (N, D): the average over the picture of the last volume."""
        return self.last(self.blocks(self.stem(images))).mean(dim=(2, 3))

    def forward(self, images):
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        return self.head(self.features(images))


#: The candidates: family, channels of the stem, blocks in each stage.
CANDIDATES = {
    "fashion_residual_4": ("residual", 16, (1, 1, 2)),
    "fashion_residual_6": ("residual", 16, (2, 2, 2)),
    "fashion_residual_9": ("residual", 12, (3, 3, 3)),
    "fashion_plain_5": ("plain", 16, (1, 2, 2)),
    "fashion_plain_9": ("plain", 16, (3, 3, 3)),
    "fashion_depthwise_6": ("depthwise", 24, (1, 2, 3)),
    "fashion_depthwise_10": ("depthwise", 16, (2, 3, 5)),
    "fashion_dense_6": ("dense", 24, (2, 2, 2)),
    "fashion_dense_12": ("dense", 16, (4, 4, 4)),
}


def load_candidate(name, *, pretrained=True):
    """A candidate by name; `topo_utils.load_model` is the way in, and seeds random weights.

    Raises
    ------
    ValueError
        A weight file that is not the one in the table ``weights/candidates.json``.
    """
    from safetensors.torch import load

    model = Candidate(*CANDIDATES[name])
    if pretrained:
        known = candidate_table()[name]["sha256"]
        content = (_WEIGHTS / f"{name}.safetensors").read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != known:
            raise ValueError(
                f"the weights of {name} have SHA-256 {found[:12]}..., not {known[:12]}... as in "
                "topo_utils/weights/candidates.json: the file was changed or is damaged. Install "
                "the package anew, or make all weights again with `topobook pretrain`."
            )
        model.load_state_dict(load(content))
        model.weights_name = f"Fashion-MNIST (SHA-256 {known[:12]})"
    return model


def candidate_table():
    """What is known of each candidate's weights, by name.

    Returns
    -------
    dict of str to dict
        sha256 of the file, parameters, accuracy on the 10,000 test images of Fashion-MNIST, seed,
        epochs, seconds, and the version of torch.
    """
    return json.loads((_WEIGHTS / "candidates.json").read_text(encoding="utf-8"))


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
        Normalised as `topo_utils.load_images` does.
    labels : torch.Tensor of int64, shape (N,)

    Raises
    ------
    ValueError
        A file that is missing or is not what its name says.
    """

    def read(kind, axes):
        file = Path(folder) / f"{part}-{kind}-idx{axes}-ubyte.gz"
        try:
            content = gzip.decompress(file.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{file} cannot be read ({error}); needed: the four .gz files of Fashion-MNIST, "
                "from github.com/zalandoresearch/fashion-mnist or Debian's dataset-fashion-mnist"
            ) from error
        # The idx format: two zeros, the type (8: bytes), the number of axes; then their lengths.
        shape = np.frombuffer(content, ">i4", axes, 4)
        if content[:4] != bytes([0, 0, 8, axes]) or len(content) != 4 + 4 * axes + shape.prod():
            raise ValueError(
                f"{file} is no idx file of bytes with {axes} axes, or is cut off; needed: the file "
                "as the authors of Fashion-MNIST distribute it"
            )
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)

    pixels, labels = read("images", 3), read("labels", 1)
    if pixels.shape[1:] != (28, 28) or len(pixels) != len(labels):
        raise ValueError(
            f"{folder} has {pixels.shape} images and {labels.shape} labels; needed: as many of "
            "both, of 28 x 28 pixels"
        )
    images = torch.cat([normalise(p[..., None].repeat(3, axis=2), 28)[None] for p in pixels])
    return images, torch.from_numpy(labels.astype(np.int64))


def pretrain(folder, out, *, names=None, epochs=3, seed=0, n_images=None, n_jobs=-1):
    """Train candidates on Fashion-MNIST; write their weights and the table beside them.

    Parameters
    ----------
    folder : path
        As for `fashion_mnist`.
    out : path
        Where NAME.safetensors and candidates.json go.
    names : sequence of str, optional
        Of `CANDIDATES`, by default all.
    epochs, seed : int
        How often each image is seen; of the initial weights and of the order of images.
    n_images : int, optional
        Only the first ones of each part; by default all.
    n_jobs : int
        How many networks at once, each on one core; -1 takes all cores.

    Returns
    -------
    dict
        As `candidate_table`, for these names.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    names = list(CANDIDATES if names is None else names)
    unknown = [name for name in names if name not in CANDIDATES]
    if unknown:
        raise ValueError(f"no candidate {', '.join(unknown)}; candidates: {', '.join(CANDIDATES)}")
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
