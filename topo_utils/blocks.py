"""Which modules of a network are measured, and how it runs such that their outputs are seen."""

from __future__ import annotations

import copy
import re
import types
from contextlib import contextmanager, suppress

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

#: What the measured modules are called, by class of torchvision or of this package.
_MEASURED = {
    "ResNet": r"conv1|bn1|relu|layer[1-4]\.\d+",
    "VGG": r"features\.\d+",  # of which the convolutions
    "DenseNet": r"features\.\w+",
    "MobileNetV2": r"features\.\w+",
    "MNASNet": r"layers\.([0-7]|(8|9|1[0-3])\.\d+|1[4-6])",
    "GoogLeNet": r"(conv|inception)\w*",
    "Inception3": r"(Conv2d|Mixed)\w*",
    "SmallNetwork": r"stem|blocks\.\d+",
}
#: What the classes are called whose outputs are measured in any other network.
_BLOCK = re.compile(
    "Block|Bottleneck|Bottle2neck|PreActBasic|SelectiveKernelBasic|InvertedResidual|MBConv|"
    "DepthwiseSeparableConv|DenseLayer|EncoderLayer"
)

_SCRIPT = (
    "{} is TorchScript, which does not show what its modules give; accepted: the torch.nn.Module "
    "that it was made from"
)


def measured_blocks(network):
    """Names of the modules that are measured by default (see `topo_utils.model_blocks`)."""
    known = ("torchvision.models.", "topo_utils.")
    kind = next((k for k in _class_names(network, known) if k in _MEASURED), None)
    rule = _MEASURED.get(kind)
    if rule is None and hasattr(getattr(network, "features", None), "denseblock1"):
        rule = _MEASURED["DenseNet"]
    elif rule is None and isinstance(getattr(network, "_blocks", None), nn.ModuleList):
        rule = r"_blocks\.\d+"
    if rule:
        of = nn.Conv2d if kind == "VGG" else nn.Module
        named = network.named_modules()
        return [name for name, m in named if re.fullmatch(rule, name) and isinstance(m, of)]

    names = []  # of the outermost modules whose class is called a block
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in names)
        if name and not inside and _BLOCK.search(type(module).__name__):
            names.append(name)
    if len(names) > 1:
        return names

    # Children; in the place of a Sequential that is a stack of blocks, or of any while there are
    # few, those of its own.
    children, before = dict(network.named_children()), None
    while children.keys() != before:
        before, few, inside = children.keys(), len(children) < 5, {}
        for name, child in children.items():
            parts = dict(child.named_children()) if isinstance(child, nn.Sequential) else {}
            stack = all(next(part.children(), None) is not None for part in parts.values())
            split = parts and (few or stack)
            inside |= {f"{name}.{part}": m for part, m in parts.items()} if split else {name: child}
        children = inside
    return list(children)


def _class_names(module, libraries):
    """Names of the classes of a module that are defined in the given libraries."""
    return [c.__name__ for c in type(module).__mro__ if c.__module__.startswith(libraries)]


def model_classes(module):
    """Names of the classes of a module that belong to networks of timm and torchvision."""
    return _class_names(module, ("timm.models.", "torchvision.models."))


def wrapped(module):
    """The module to which a wrapper of torch hands its input unchanged; None for any other module,
    also for a wrapper whose `forward` is not torch's.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return None
    if "_orig_mod" in module._modules:  # torch.compile's
        return module._modules["_orig_mod"]
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel
    inner = module._modules.get("module")
    if not any(type(module).forward is wrapper.forward for wrapper in wrappers):
        return None
    return inner if vars(module).get("forward", inner) in (inner, inner.__call__) else None


def unwrapped(model):
    """A network without the wrappers around it that change nothing in what it gives; one with
    hooks stays. TorchScript, and weights that are spread over processes, are a TypeError.
    """
    while not (model._forward_hooks or model._forward_pre_hooks) and wrapped(model) is not None:
        model = wrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(_SCRIPT.format("the network"))
    if {"FullyShardedDataParallel", "FSDPModule"} & {c.__name__ for c in type(model).__mro__}:
        raise TypeError(
            "the network's weights are spread over processes (FSDP); accepted: a network with all "
            "its weights, such as one that has loaded the full state dict"
        )
    return model


def module_path(network, name):
    """The modules from a network down to the one of a name, both included; [] if there is none.

    The words that wrappers put into names (``_orig_mod``, ``module``) may be there or not.
    """
    path = [network]
    for part in name.split(".") if name else ():
        while part not in path[-1]._modules and (inner := wrapped(path[-1])) is not None:
            path.append(inner)
        if part in path[-1]._modules and path[-1]._modules[part] is not None:
            path.append(path[-1]._modules[part])
        elif part not in ("module", "_orig_mod"):
            return []
    return path


def batch_norms(network):
    """The batch-norm layers of a network, of any number of dimensions."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def check_device(device):
    """The torch.device of a name; where it is not there, a ValueError names those that are."""

    def count(kind):  # torch has a module for each kind of device
        return getattr(getattr(torch, kind, None), "device_count", lambda: 0)()

    with suppress(RuntimeError, TypeError):
        found = torch.device(device)
        if found.type == "cpu":
            return torch.device("cpu")  # whatever its number
        if (found.index or 0) < count(found.type):
            return found
    there = ["auto", "cpu", *(kind for kind in ("cuda", "mps", "xpu") if count(kind))]
    there += [f"cuda:{i}" for i in range(count("cuda"))]
    raise ValueError(
        f"there is no device {str(device)!r} here; accepted: {', '.join(map(repr, there))}"
    )


# ---------------------------------------------------------------------------------------------
# Networks that run.


@contextmanager
def block_outputs(network, blocks, take=None, *, device="cpu", batch_norm="eval"):
    """Run a network and see what its blocks give::

        with block_outputs(network, ["layer1", "layer2"]) as run:
            outputs = run(images)

    A copy runs, in eval mode and with the same parameters in memory, so that the network is left as
    it was found. Compiled modules run as those from which they were compiled.

    Parameters
    ----------
    network : torch.nn.Module
        With or without wrappers, and in any mode.
    blocks : sequence of str
        Names as in ``network.named_modules()``; those of no module are passed over.
    take : callable, optional
        ``take(name, output)`` gets each output at once, before a layer that works in place
        overwrites it. What it returns, unless that is None, goes on in the output's place.
    device : str or torch.device
        Where the copy runs.
    batch_norm : {"eval", "per_image"}
        As for `topo_utils.embedding_profile`.

    Yields
    ------
    callable
        Of images (N, 3, H, W), to copies of the outputs by name, in the order in which the blocks
        ran; empty where there is `take`.

    Raises
    ------
    TypeError, ValueError
        A network that cannot be copied, or has no weights here; a block that is TorchScript; no
        such device.
    """
    device, outputs, hooks = check_device(device), {}, []
    network = _copied(network, device, batch_norm)
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)

    def run(images):
        outputs.clear()
        with torch.inference_mode():
            network(images.to(device, dtype, copy=True))  # the first layer may work in place
        return dict(outputs)

    def keep(name, output):
        outputs[name] = copy.deepcopy(output)

    try:
        for name in blocks:
            path = module_path(network, name)
            if any(isinstance(module, torch.jit.ScriptModule) for module in path):
                raise TypeError(_SCRIPT.format(f"block {name!r}"))

            def hand_over(module, inputs, output, name=name):
                return (take or keep)(name, output)

            if path:  # after the user's own hooks, which may have put another output in its place
                hooks.append(path[-1].register_forward_hook(hand_over))
        yield run
    finally:
        for hook in hooks:
            hook.remove()


def _copied(network, device, batch_norm):
    """A copy of a network, in eval mode on a device, whose functions refer to its own modules."""
    kind, lazy = type(network).__name__, torch.nn.parameter.UninitializedTensorMixin
    tensors = [*network.parameters(), *network.buffers()]
    if any(isinstance(tensor, lazy) or tensor.is_meta for tensor in tensors):
        raise ValueError(
            f"{kind} has parameters without values (lazy modules, or the device 'meta'); accepted: "
            "a network with weights, such as one that has run once, or has loaded a checkpoint"
        )
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())
    if scripted and batch_norm == "per_image":
        raise ValueError(
            f"{kind} has TorchScript in it, whose batch norm cannot be changed; accepted: "
            "batch_norm='eval', or the torch.nn.Module that it was made from"
        )
    here = all(p.device == device for p in network.parameters())
    memo = {id(p): p for p in network.parameters()} if here else {}
    # Autograd's results, which deepcopy refuses, are among the tensors in attributes.
    loose = (t for module in network.modules() for t in tensors_in(vars(module)))
    memo |= {id(t): t.detach().clone() for t in loose}
    try:
        made = copy.deepcopy(network, memo)
    except Exception as error:  # whatever code of the user's own may raise
        raise TypeError(
            f"{kind} cannot be copied ({error}), which a profile needs: every core works on its "
            "own; accepted: a network that copy.deepcopy copies"
        ) from error
    for module in made.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for functions in (vars(module), module._forward_pre_hooks, module._forward_hooks):
            functions |= {name: _own(function, memo) for name, function in functions.items()}
        module._compiled_call_impl = None
        if (inner := wrapped(module)) is not None:
            vars(module)["forward"] = inner.__call__
    made.to(device).eval()
    for norm in batch_norms(made) if batch_norm == "per_image" else ():
        # Statistics of what comes in, while the running ones are neither read nor written.
        norm.training, norm.track_running_stats = True, False
    return made


def tensors_in(value):
    """The tensors in a value and in the containers in it, buffers too, but no parameters."""
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def _own(value, memo):
    """A function that refers to the copies of modules; anything but functions and modules as it is.

    One that refers to no module stays the user's, who may count in its variables.
    """
    if isinstance(value, nn.Module):
        return memo.get(id(value), value)
    if isinstance(value, types.MethodType):
        own = _own(value.__self__, memo)
        return value if own is value.__self__ else types.MethodType(value.__func__, own)
    if not isinstance(value, types.FunctionType) or not value.__closure__:
        return value
    if id(value) not in memo:
        memo[id(value)], cells = value, list(value.__closure__)  # it may refer to itself
        for i, cell in enumerate(cells):
            with suppress(ValueError):  # nothing is in it yet
                if (own := _own(cell.cell_contents, memo)) is not cell.cell_contents:
                    cells[i] = types.CellType(own)
        if any(own is not given for own, given in zip(cells, value.__closure__, strict=True)):
            code, names, defaults = value.__code__, value.__globals__, value.__defaults__
            own = types.FunctionType(code, names, value.__name__, defaults, tuple(cells))
            own.__kwdefaults__, memo[id(value)] = value.__kwdefaults__, own
    return memo[id(value)]
