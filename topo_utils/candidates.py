"""Nine small networks, pretrained on Fashion-MNIST, whose weights come with the package.

They are the candidates of the chapter on ranking: four families (residual, plain, depthwise, dense)
of different depths, small enough to be fine-tuned on a CPU in seconds. ``topobook pretrain`` makes
their weights again (`topo_utils.weights.pretrain`).
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import torch
from torch import nn

_WEIGHTS = files("topo_utils") / "weights"

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
    """A candidate by name; call `topo_utils.load_model`, which also seeds random weights.

    Raises
    ------
    ValueError
        A file of weights that is not the one in the table ``weights/candidates.json``.
    """
    from safetensors.torch import load

    model = SmallNetwork(*CANDIDATES[name])
    if pretrained:
        known = candidate_table()[name]["sha256"]
        content = (_WEIGHTS / f"{name}.safetensors").read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != known:
            raise ValueError(
                f"the weights of {name} have SHA-256 {found[:12]}..., not {known[:12]}... as in "
                "topo_utils/weights/candidates.json: the file was changed or is damaged. Install "
                "the package again, or make all weights again with `topobook pretrain`."
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


class SmallNetwork(nn.Module):
    """A stem, blocks and a linear head on the average over the picture.

    Parameters
    ----------
    family : {"residual", "plain", "depthwise", "dense"}
        What a block is.
    width : int
        Channels of the stem; for "dense", twice the channels that a block adds.
    stages : sequence of int
        The number of blocks in each stage. Every stage after the first has half the resolution and,
        except for "dense", twice the channels.
    classes : int
        Outputs of the head.
    """

    def __init__(self, family, width, stages, classes=10):
        super().__init__()
        self.stem = nn.Sequential(_conv(3, width), *_norm(width))
        blocks, channels = [], width
        for stage, depth in enumerate(stages):
            if family == "dense" and stage > 0:
                blocks.append(nn.Sequential(nn.AvgPool2d(2), _conv(channels, channels // 2, 1)))
                channels //= 2
            for i in range(depth):
                if family == "dense":
                    blocks.append(_Dense(channels, width // 2))
                    channels += width // 2
                else:
                    outputs, stride = width * 2**stage, 2 if stage > 0 and i == 0 else 1
                    blocks.append(_BLOCKS[family](channels, outputs, stride))
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


def _conv(inputs, outputs, size=3, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


def _norm(channels):
    return [nn.BatchNorm2d(channels), nn.ReLU()]


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


def _plain(inputs, outputs, stride):
    return nn.Sequential(_conv(inputs, outputs, stride=stride), *_norm(outputs))


def _depthwise(inputs, outputs, stride):
    """A convolution within each channel, then one across them (MobileNet, Howard et al., 2017)."""
    return nn.Sequential(
        _conv(inputs, inputs, stride=stride, groups=inputs),
        *_norm(inputs),
        _conv(inputs, outputs, 1),
        *_norm(outputs),
    )


_BLOCKS = {"residual": _Residual, "plain": _plain, "depthwise": _depthwise}
