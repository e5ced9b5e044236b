"""Weights from a file, as people have them: what fits a network is found, or it is refused.

A file may hold a state dict or dicts of them, whose names may begin with words that training put
there (``module.``, ``model.``, ``backbone.``). All of it is read as one table of long names, such
as ``state_dict.module.conv1.weight``; what makes names and shapes fit is taken off.
"""

from __future__ import annotations

import builtins
import pickle
import re
import sys
import threading
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from pickletools import genops

import torch

__all__ = ["load_checkpoint"]

_MISSING, _EXTRA, _SHAPE = "are missing in it", "are not the network's", "have another shape"
_ACCEPTED = "accepted: .safetensors, or a state dict that torch.save wrote"
#: Modules around others that add a word to names, wherever they stand.
_WRAPPERS = re.compile(
    r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
#: torchvision's names of DenseNets before 0.3, as it reads them itself.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
#: What a network may have been trained with, and needs no more: heads, and losses with weights.
_HEADS = re.compile(
    "(.*_)?(aux|head|fc|classif|linear|last_linear|proj|predict|criterion|loss)", re.IGNORECASE
)
_AVERAGED = re.compile(r"(^|[._])ema")


def load_checkpoint(model, file, blocks, size):
    """Give a network the weights of a file, in place.

    What no block needs may be missing, superfluous or of another shape, such as a head for other
    classes. A warning says what was left out, and what the network has no weights for is NaN: so
    nothing is ever measured with weights that are nobody's. Of averaged weights (EMA) and others,
    the averaged ones are taken, as timm does; of other sets that fit alike, none.

    Parameters
    ----------
    model : torch.nn.Module
        Its attribute ``weights_name`` says afterwards which weights it has.
    file : path
        A .safetensors file, or what torch.save wrote, which is read with ``weights_only=True``. Of
        objects in it only tensors are made; no code of the file runs.
    blocks : sequence of str
        The modules that are measured by default; vectors beside volumes are not.
    size : int
        Height and width of the images that the network takes.

    Raises
    ------
    ValueError
        A file that cannot be read, holds no weights, or those of another network; several sets of
        weights that fit.
    """
    file = Path(file).expanduser()
    flat, versions = {}, {}
    _flatten(_read(file), "", flat, versions, set())
    if not flat:
        raise ValueError(
            f"checkpoint {file} holds no weights by name; accepted: a state dict, or a dict with "
            "one in it; of a network that was saved as a whole, its network.state_dict()"
        )
    model.eval()
    fits, refused = [], []
    for found in _candidates(flat, versions, model):
        try:
            fits.append(_load(model, found, blocks, size))
        except ValueError as error:
            refused.append(error)
    if not fits:
        raise ValueError(
            f"checkpoint {file} {refused[0]}; accepted: weights of this network, of which only "
            "what no block needs may differ, such as its head"
        ) from refused[0].__cause__
    found, chosen, told = fits[0], "", []
    others = [other for other in fits if not _alike(found, other)]
    if others:
        averaged = [one for one in (found, *others) if _AVERAGED.search(one.prefix)]
        if len(averaged) != 1:
            sets = " and ".join(repr(one.prefix.rstrip(".")) for one in (found, *others))
            raise ValueError(
                f"checkpoint {file} holds {1 + len(others)} sets of weights that fit, {sets}; "
                "accepted: a single one (save it alone), or one and its average (ema)"
            )
        (found,) = averaged
        chosen = f", {found.prefix.rstrip('.')}"
        told = [f"of {1 + len(others)} sets of weights{chosen[1:]} was taken"]
    if len(fits) + len(refused) > 1:
        _load(model, found, blocks, size)
    told += [f"left out of it: {_listed(found.left_out)}"] if found.left_out else []
    told += [f"timm fitted to the network's size: {_listed(found.fitted)}"] if found.fitted else []
    if found.without:
        told += [f"it has nothing for these, which are NaN now: {_listed(found.without)}"]
    if told:
        warnings.warn(f"checkpoint {file.name}: {'; '.join(told)}", stacklevel=3)
    lacking = list(dict.fromkeys(name.rpartition(".")[0] or name for name in found.without))
    without = f", without {_listed(lacking)}" * bool(lacking)
    model.weights_name = f"checkpoint {file.name}{chosen}{without}"


def _alike(a, b):
    """Whether two sets of weights have the same values where they have the same names."""
    return all(torch.equal(a.loaded[name], b.loaded[name]) for name in a.loaded.keys() & b.loaded)


def _listed(names):
    """Names in prose: up to three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ---------------------------------------------------------------------------------------------
# What is in a file.


def _read(file):
    """What a file holds, whatever it is called."""
    if file.is_dir() or not file.exists():
        kind = "is a folder" if file.is_dir() else "cannot be read (there is no such file)"
        raise ValueError(f"checkpoint {file} {kind}; {_ACCEPTED}")
    if not file.is_file():
        raise ValueError(f"checkpoint {file} cannot be read (it is no regular file); {_ACCEPTED}")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    start = b""
    try:
        with file.open("rb") as opened:
            start = opened.read(64)
            return load_file(file) if start[8:9] == b"{" else _unpickled(opened)
    except (
        *(OSError, SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError),
        *(TypeError, KeyError, AttributeError, IndexError, AssertionError, zipfile.BadZipFile),
    ) as error:
        why = getattr(error, "strerror", None) or _reason(start, str(error), file)
        raise ValueError(f"checkpoint {file} cannot be read ({why}); {_ACCEPTED}") from error


def _reason(start, said, file):
    if not start and file.stat().st_size == 0:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: git lfs pull fetches the file itself"
    if found := re.search(r"GLOBAL (\S+)", said):
        return f"it would run {found[1]}, and code in a file is never run"
    with suppress(UnicodeDecodeError):
        line = start[:60].decode("ascii").partition("\n")[0]
        if line.isprintable():
            return f"it is text, which begins with {line!r}"
    if start[:1] != b"\x80" and start[:2] != b"PK" and start[8:9] != b"{":
        return f"it begins with {start[:8]!r}, as no such file does"
    if "Unsupported operand" in said:
        return "it is a pickle of a newer protocol than 2, in which torch.save writes by itself"
    said = re.sub(r"\x1b\[[\d;]*m", "", said)
    found = re.search(r"WeightsUnpickler error:\s*(.*)", said)
    return found[1] if found else said.partition("\n")[0]


class _Inert:
    """In the place of an object that a file would make: it takes what it is given, and drops it."""

    is_dict = False

    def __new__(cls, *_):
        return OrderedDict() if cls.is_dict else super().__new__(cls)

    def __setstate__(self, state):
        pass


#: Modules of the standard library whose objects are mere values.
_VALUES = {"argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions"}
_VALUES |= {"functools", "pathlib", "types", "typing", "uuid"}
_READING = threading.Lock()  # torch's list of what may be made is one for the whole process


def _unpickled(opened):
    """What torch.save wrote, where beside tensors there may be a trainer's settings and counts."""
    parts, stand_ins = [opened] * 4, []  # before torch 1.6 a head of three pickles came first
    if zipfile.is_zipfile(opened):
        archive = zipfile.ZipFile(opened)
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise ValueError("it is a TorchScript archive, which holds code")
        parts = [archive.open(name) for name in names if name.endswith("/data.pkl")]
        if not parts:
            raise ValueError(f"it is a zip archive, of {_listed(names)}")
    opened.seek(0)
    made = set()
    with suppress(ValueError):  # torch will say what is wrong
        for part in parts:
            made |= {tuple(said.split(" ")) for op, said, _ in genops(part) if op.name == "GLOBAL"}
    for module, name in made:
        # torch writes and reads names as Python 2 had them.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        library = module.partition(".")[0]
        value = library in _VALUES or isinstance(getattr(builtins, name, None), type)
        if value or library not in sys.stdlib_module_names:
            stand_ins.append(type(f"{module}.{name}", (_Inert,), {}))
    while True:
        opened.seek(0)
        allowed = [(stand_in, stand_in.__name__) for stand_in in stand_ins]
        try:
            with _READING, torch.serialization.safe_globals(allowed):
                return torch.load(opened, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch tells of a class only now that it is a kind of dict, which may hold weights.
            said = str(error)
            dicts = [c for c in stand_ins if f".{c.__name__}'" in said and "SETITEM" in said]
            if not dicts or dicts[0].is_dict:
                raise
            dicts[0].is_dict = True


def _flatten(held, path, flat, versions, seen):
    """All tensors in dicts of dicts by long names, and what modules say of their versions."""
    if not isinstance(held, dict) or id(held) in seen or path.count(".") > 200:
        return
    seen.add(id(held))
    for name, version in dict(getattr(held, "_metadata", {})).items():
        versions[f"{path}{name}".rstrip(".")] = version
    for name, value in held.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            flat[path + name] = value.detach()
        elif isinstance(name, str):
            _flatten(value, f"{path}{name}.", flat, versions, seen)


# ---------------------------------------------------------------------------------------------
# What of it is the network's.


@dataclass
class _Found:
    """What a file holds under a prefix; `state` by names of the network where they are its own."""

    prefix: str
    state: dict
    versions: dict
    left_out: list  # names in the file
    fitted: list  # to another size, by timm
    without: list = ()  # names of the network
    loaded: dict = None


def _tensors(model):
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _candidates(flat, versions, model):
    """What may be the network's weights, first under the prefix where most entries fit."""
    own, best, table = _tensors(model), (0, 0), {}
    for strip in (lambda name: name, lambda name: _WRAPPERS.sub("", name)):
        ours, theirs = {strip(name): name for name in own}, {strip(name): name for name in flat}
        if len(ours) < len(own) or len(theirs) < len(flat):
            continue  # it would make one name of two
        counts = {}
        for name, whole in theirs.items():
            for start in (0, *(match.end() for match in re.finditer(r"\.", name))):
                if mine := ours.get(name[start:]):
                    shapes, names = counts.get(name[:start], (0, 0))
                    same = own[mine].shape == flat[whole].shape
                    counts[name[:start]] = shapes + same, names + 1
        if max(counts.values(), default=best) > best:
            best, table = max(counts.values()), (strip, ours, theirs, counts)
    if not table:
        first = {name.partition(".")[0] for name in flat}
        prefix = f"{first.pop()}." if len(first) == 1 else ""
        same = dict(zip(flat, flat, strict=True))
        table = str, {}, same, {prefix: (0, 0)}  # the library may know what older names mean
    strip, ours, theirs, counts = table
    for prefix in sorted(counts, key=counts.get, reverse=True):
        if 2 * counts[prefix][1] < best[1]:
            continue
        inside = {
            whole: name.removeprefix(prefix)
            for name, whole in theirs.items()
            if name.startswith(prefix)
        }
        paths = {path: strip(f"{path}." if path else "") for path in versions}
        given = {ours.get(name, name): flat[whole] for whole, name in inside.items()}
        state = _translated(given, own, model)
        # Of what the library renamed nothing is lost.
        dropped = [n for n in given if n not in state] if len(state) < len(given) else []
        yield _Found(
            prefix,
            state,
            {n[len(prefix) : -1]: versions[p] for p, n in paths.items() if n.startswith(prefix)},
            dropped + [name for name in flat if name not in inside],
            [n for n, v in given.items() if n in state and state[n].shape != v.shape],
        )


def _translated(state, own, model):
    """Older names, and positions of another grid, as the libraries read them themselves."""
    if all(name in state and state[name].shape == value.shape for name, value in own.items()):
        return state
    state = {
        name if name in own else _OLD_DENSENET.sub(r"\1", name): value
        for name, value in state.items()
    }
    module = type(model).__module__
    for name in ("checkpoint_filter_fn", "_filter_fn") if module.startswith("timm.") else ():
        if translate := getattr(sys.modules[module], name, None):
            with suppress(Exception):  # it is none of those that it knows
                state = dict(translate(dict(state), model))
    return state


def _load(model, found, blocks, size):
    """Load what was found; a ValueError says why it is another network's."""
    own = _tensors(model)
    usable, wrong = OrderedDict(), {_MISSING: [], _EXTRA: []}
    for name, value in found.state.items():
        # A module may know what names mean that are not its own any more.
        usable[name], why = _converted(value, own[name]) if name in own else (value, None)
        if why:
            wrong.setdefault(why, []).append(name)
            del usable[name]
    complete = len(usable.keys() & own.keys()) == len(own)
    usable._metadata = found.versions or (model.state_dict()._metadata if complete else {})
    if not found.state.keys() & own.keys():
        names = [found.prefix + name for name in found.state]
        raise ValueError(
            f"is of another network: none of its {len(names)} entries ({_listed(names)}) is one of "
            f"the network's {len(own)} ({_listed(list(own))})"
        )
    try:
        missing, extra = model.load_state_dict(usable, strict=False) or (own.keys() - usable, [])
    except Exception as error:  # whatever code of the user's own may raise
        raise ValueError(f"cannot be loaded ({str(error).partition(chr(10))[0]})") from error
    given = {id(own[name]) for name in usable if name in own}  # tied ones have several names
    wrong[_MISSING] += [
        name
        for name in missing
        if id(own.get(name)) not in given
        and not name.endswith("num_batches_tracked")
        and not any(name in names for names in wrong.values())
    ]
    wrong[_EXTRA] += [n for n in extra if usable[n].is_floating_point()]

    modules = dict(model.named_modules())
    numbered = {re.sub(r"\d+$", "", child) for child, _ in model.named_children()}
    spoiled = [name for why, names in wrong.items() for name in names if why != _EXTRA]
    fatal = any(name not in own or not own[name].is_floating_point() for name in spoiled)
    around = []  # the network's modules in which the file has more than it
    for name in wrong[_EXTRA]:
        child, inside = name.partition(".")[0], name
        while inside not in modules:
            inside = inside.rpartition(".")[0]
        around += [inside] * bool(inside)
        fatal |= not inside and (not _HEADS.match(child) or re.sub(r"\d+$", "", child) in numbered)
    if not fatal:
        spoiled += [
            name
            for name, value in own.items()
            if name not in spoiled
            and value.is_floating_point()
            and any(name.startswith(f"{module}.") for module in around)
        ]
        with torch.no_grad():
            for name in spoiled:
                own[name].fill_(torch.nan)
    needed = "" if fatal or not (spoiled or around) else _needed(model, blocks, size, around)
    if fatal or needed:
        counts = (
            f"{len(names)} {why} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
            for why, names in wrong.items()
            if names
        )
        differ = any(wrong.get(why) for why in (_MISSING, _EXTRA, _SHAPE))
        raise ValueError(
            f"{'is of another network' if differ else 'cannot be used'}: of its "
            f"{len(found.state)} entries and the network's {len(own)}, {'; '.join(counts)}{needed}"
        )
    left_out = [name for name in found.state if name not in usable or name in extra]
    return replace(found, loaded=usable, left_out=found.left_out + left_out, without=spoiled)


def _converted(value, own):
    """An entry in the type and layout of the network's, and why it is of no use, if it is not."""
    if value.is_quantized or value.is_nested or (value.is_complex() and not own.is_complex()):
        return value, "are complex, quantized or nested"
    value = value.to_dense() if value.layout != torch.strided else value
    value = value.reshape(own.shape) if value.numel() == own.numel() == 1 else value
    if value.shape != own.shape:
        return value, _SHAPE
    if value.is_meta:
        return value, "have no values"
    converted = value.to(own.dtype)
    finite = converted.isfinite()
    # What the network has itself from the start, such as a mask of -inf, may be there.
    if not finite.all() and not (finite | ~own.detach().cpu().isfinite()).all():
        return value, "are not finite"
    whole = not own.is_floating_point() and not own.is_complex()
    if whole and not torch.equal(converted.to(value.dtype), value):
        return value, "are no whole numbers"
    return converted, None


def _needed(model, blocks, size, around):
    """Which blocks need what is NaN, in words; none if all are finite for an image of noise."""
    found, hooks, modules = {}, [], dict(model.named_modules())

    def look(name, output):
        for part in output if isinstance(output, tuple | list) else [output]:
            if isinstance(part, torch.Tensor):
                volume = part.ndim > 2 and part.shape[-2:] != (1, 1)
                found.setdefault(name, []).append((volume, bool(part.isfinite().all())))

    def spoil(module, inputs, output):
        return output * torch.nan if isinstance(output, torch.Tensor) else None

    hooks += [modules[name].register_forward_hook(spoil) for name in around]
    hooks += [
        modules[name].register_forward_hook(lambda m, i, output, name=name: look(name, output))
        for name in blocks
    ]
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    wrong = None
    try:
        for side in dict.fromkeys((size, 32, 64, 28)):  # of the user's own some take one size only
            found.clear()
            noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
            try:
                with torch.no_grad():
                    model(noise.to(like))
                break
            except Exception as error:
                wrong = wrong or error
        else:
            why = str(wrong).partition("\n")[0]
            return f", and whether blocks need them is not known: the network does not run ({why})"
    finally:
        for hook in hooks:
            hook.remove()
    volumes = any(volume for parts in found.values() for volume, _ in parts)
    hurt = [
        name
        for name, parts in found.items()
        if any(not finite and (volume or not volumes) for volume, finite in parts)
    ]
    return f", which matters to block {hurt[0]!r}" if hurt else ""
