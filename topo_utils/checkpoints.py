"""Weights from a file, as people have them: what fits a network is found, or the file is refused.

A file may hold a state dict, or dicts of them, with words that training put before the names
(``module.``, ``model.``, ``backbone.``). All of it is read as one table of long names, such as
``state_dict.module.conv1.weight``; what keeps names and shapes from fitting is taken off.
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
from functools import partial
from pathlib import Path

import torch

from topo_utils.blocks import block_outputs, tensors_in

_MISSING, _EXTRA, _SHAPE = "are missing from it", "are not the network's", "have a different shape"
#: Modules around others that add a word to names, wherever they stand.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: torchvision's names of DenseNets before 0.3, as it reads them itself.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
#: What a network may have been trained with and no longer needs: heads, and losses with weights.
_HEADS = re.compile(
    "(.*_)?(aux|head|fc|classif|linear|last_linear|proj|predict|criterion|loss)", re.IGNORECASE
)
_AVERAGED = re.compile(r"(^|[._])ema")
#: Modules of the standard library whose objects are mere values.
_VALUES = {"argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions"}
_VALUES |= {"functools", "pathlib", "types", "typing", "uuid"}


def load_checkpoint(model, file, blocks, size):
    """Give a network the weights of a file, in place.

    What no block needs may be missing, superfluous or of a different shape, such as a head for
    different classes. A warning says what was left out, and whatever gets no weights becomes NaN,
    so that nothing is ever measured with weights that are nobody's. If there are averaged weights
    (EMA) too, these are taken, as timm does; of different sets that fit alike, none.

    Parameters
    ----------
    model : torch.nn.Module
        Its attribute ``weights_name`` says afterwards which weights it has.
    file : path
        A .safetensors file, or what torch.save wrote, which is read with ``weights_only=True``: of
        the objects in it only tensors are made, and no code of the file runs.
    blocks : sequence of str
        The modules that are measured by default; vectors beside volumes are not.
    size : int
        Height and width of the images that the network takes, in pixels.

    Raises
    ------
    ValueError
        A file that cannot be read, or holds no weights, those of a different network, or several
        sets that fit.
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
    sets = [fits[0], *(other for other in fits if not _alike(fits[0], other))]
    averaged = [one for one in sets if _AVERAGED.search(one.prefix)]
    if len(sets) > 1 and len(averaged) != 1:
        names = " and ".join(repr(one.prefix.rstrip(".")) for one in sets)
        raise ValueError(
            f"checkpoint {file} holds {len(sets)} sets of weights that fit, {names}; "
            "accepted: a single one (save it alone), or one and its average (ema)"
        )
    found = averaged[0] if len(sets) > 1 else fits[0]
    if len(fits) + len(refused) > 1:
        _load(model, found, blocks, size)
    chosen, told = "", []
    if len(sets) > 1:
        chosen = f", {found.prefix.rstrip('.')}"
        told = [f"of {len(sets)} sets of weights{chosen[1:]} was taken"]
    for names, what in (
        (found.left_out, "left out of it"),
        (found.fitted, "timm fitted to the network's size"),
        (found.lacking, "it has nothing for these, which are NaN now"),
    ):
        told += [f"{what}: {_listed(names)}"] if names else []
    if told:
        warnings.warn(f"checkpoint {file.name}: {'; '.join(told)}", stacklevel=3)
    lacking = list(dict.fromkeys(name.rpartition(".")[0] or name for name in found.lacking))
    without = f", without {_listed(lacking)}" if lacking else ""
    model.weights_name = f"checkpoint {file.name}{chosen}{without}"


def _alike(a, b):
    """Whether two sets of weights have the same values where they have the same names."""
    return all(torch.equal(a.state[name], b.state[name]) for name in a.state.keys() & b.state)


def _listed(names):
    """Names in prose: up to three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _read(file):
    """What a file holds, whatever it is called."""
    from safetensors.torch import load_file

    start = b""
    try:
        if not file.is_file():  # reading a pipe might never end
            raise ValueError
        with file.open("rb") as opened:
            start = opened.read(64)
            return load_file(file) if start[8:9] == b"{" else _unpickled(opened)
    except Exception as error:  # each reader has its own kinds
        why = getattr(error, "strerror", None) or _unreadable_because(file, start, str(error))
        raise ValueError(
            f"checkpoint {file} cannot be read ({why}); accepted: .safetensors, or a state dict "
            "that torch.save wrote"
        ) from error


def _unreadable_because(file, start, said):
    if file.is_dir():
        return "it is a folder"
    if not file.is_file():
        return "it is not a regular file" if file.exists() else "there is no such file"
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: git lfs pull fetches the file itself"
    if found := re.search(r"GLOBAL (\S+)", said):
        return f"it would run {found[1]}, and code in a file is never run"
    if zipfile.is_zipfile(file):
        names = zipfile.ZipFile(file).namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return "it is a TorchScript archive, which holds code"
        if not any(name.endswith("/data.pkl") for name in names):
            return f"it is a zip archive, of {_listed(names)}"
    with suppress(UnicodeDecodeError):
        line = start[:60].decode("ascii").partition("\n")[0]
        if line.isprintable():
            return f"it is text, which begins with {line!r}"
    if start[:1] != b"\x80" and start[:2] != b"PK" and start[8:9] != b"{":
        return f"it begins with {start[:8]!r}, as neither kind of file does"
    if "Unsupported operand" in said:
        return "it is a pickle of a newer protocol than 2, in which torch.save writes by itself"
    said = re.sub(r"\x1b\[[\d;]*m", "", said)
    found = re.search(r"WeightsUnpickler error:\s*(.*)", said)
    return found[1] if found else said.partition("\n")[0]


class _Inert:
    """Takes the place of an object that a file would make: it drops all that it is given."""

    is_dict = False

    def __new__(cls, *_):
        return OrderedDict() if cls.is_dict else super().__new__(cls)

    def __setstate__(self, state):
        pass


_READING = threading.Lock()  # torch's list of what may be made belongs to the whole process


def _unpickled(opened):
    """What torch.save wrote, where there may be a trainer's settings and counts beside tensors.

    Each class that torch does not know gets a stand-in. Of the old format torch names one by one.
    """
    opened.seek(0)
    unknown, stand_ins = [], {}
    with suppress(Exception):
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(opened)
    while True:
        for name in filter(_is_harmless, unknown):
            stand_ins.setdefault(name, type(name, (_Inert,), {}))
        allowed = [(stand_in, name) for name, stand_in in stand_ins.items()]
        opened.seek(0)
        try:
            with _READING, torch.serialization.safe_globals(allowed):
                return torch.load(opened, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            said = str(error)
            unknown = re.findall(r"GLOBAL (\S+) was not an allowed", said)
            unknown = [name if "." in name else f"builtins.{name}" for name in unknown]
            unknown = [name for name in unknown if _is_harmless(name) and name not in stand_ins]
            dicts = [one for one in stand_ins.values() if "SETITEM" in said and f" {one}" in said]
            for stand_in in dicts:
                stand_in.is_dict = True
            if not unknown and not dicts:
                raise


def _is_harmless(name):
    """Whether nothing is lost and nothing hidden if an object of this name is dropped."""
    module, _, name = name.rpartition(".")
    # torch writes names as Python 2 had them.
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    library = module.partition(".")[0]
    if library == "builtins":
        return isinstance(getattr(builtins, name, None), type)
    return library in _VALUES or library not in sys.stdlib_module_names


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


@dataclass
class _Found:
    """What a file holds under a prefix; `state` by names of the network where they are its own."""

    prefix: str
    state: dict
    versions: dict
    left_out: list  # names in the file
    fitted: list  # to another size, by timm
    lacking: list = ()  # names of the network


def _tensors(model):
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _candidates(flat, versions, model):
    """What may be the network's weights, first under the prefix where most entries fit."""
    own, tables = _tensors(model), []
    foreign = [word for word in _WRAPPERS if word not in ".".join(own).split(".")]
    for words in ([], foreign, _WRAPPERS):  # a child of the network may be called like a wrapper
        strip = partial(re.compile(rf"(?<![^.])({'|'.join(words)})\.").sub, "")
        ours, theirs = {strip(name): name for name in own}, {strip(name): name for name in flat}
        scores = {}  # by prefix: how many shapes fit, and how many names
        for name, whole in theirs.items():
            for start in (0, *(match.end() for match in re.finditer(r"\.", name))):
                if mine := ours.get(name[start:]):
                    shapes, names = scores.get(name[:start], (0, 0))
                    same = own[mine].shape == flat[whole].shape
                    scores[name[:start]] = shapes + same, names + 1
        if len(ours) == len(own) and len(theirs) == len(flat):  # no name of two
            tables.append((max(scores.values(), default=(0, 0)), strip, ours, theirs, scores))
    best, strip, ours, theirs, scores = max(tables, key=lambda table: table[0])
    if not scores:  # the library may know what older names mean
        first = {name.partition(".")[0] for name in flat}
        scores = {f"{first.pop()}." if len(first) == 1 else "": best}
    for prefix in sorted(scores, key=scores.get, reverse=True):
        if 2 * scores[prefix][1] < best[1]:
            continue
        cut = len(prefix)
        inside = {whole: n[cut:] for n, whole in theirs.items() if n.startswith(prefix)}
        given = {ours.get(name, name): flat[whole] for whole, name in inside.items()}
        state = _translated(given, own, model)
        # Nothing is lost of what the library renamed.
        dropped = [n for n in given if n not in state] if len(state) < len(given) else []
        paths = {strip(f"{path}." if path else ""): said for path, said in versions.items()}
        yield _Found(
            prefix,
            state,
            {path[cut:-1]: said for path, said in paths.items() if path.startswith(prefix)},
            dropped + [name for name in flat if name not in inside],
            [n for n, value in given.items() if n in state and state[n].shape != value.shape],
        )


def _translated(state, own, model):
    """Older names, and positions of a different grid, as the libraries read them themselves."""
    if all(name in state and state[name].shape == value.shape for name, value in own.items()):
        return state
    state = {n if n in own else _OLD_DENSENET.sub(r"\1", n): value for n, value in state.items()}
    module = type(model).__module__
    for name in ("checkpoint_filter_fn", "_filter_fn") if module.startswith("timm.") else ():
        if translate := getattr(sys.modules[module], name, None):
            with suppress(Exception):  # it is none of those that it knows
                state = dict(translate(dict(state), model))
    return state


def _load(model, found, blocks, size):
    """Load what was found; a ValueError says why it belongs to a different network."""
    own = _tensors(model)
    if not found.state.keys() & own.keys():
        names = [found.prefix + name for name in found.state]
        raise ValueError(
            f"is from a different network: none of its {len(names)} entries ({_listed(names)}) is "
            f"one of the network's {len(own)} ({_listed(list(own))})"
        )
    usable, wrong = OrderedDict(), {_MISSING: [], _EXTRA: []}
    for name, value in found.state.items():
        # A module may know what names mean that are no longer its own.
        value, why = _converted(value, own[name]) if name in own else (value, None)
        if why:
            wrong.setdefault(why, []).append(name)
        else:
            usable[name] = value
    usable._metadata = found.versions or (
        {} if own.keys() - usable.keys() else model.state_dict()._metadata
    )
    try:
        missing, extra = model.load_state_dict(usable, strict=False) or (own.keys() - usable, [])
    except Exception as error:  # code of the user's own may raise anything
        raise ValueError(f"cannot be loaded ({str(error).partition(chr(10))[0]})") from error
    unusable = {name for names in wrong.values() for name in names}
    given = {id(own[name]) for name in usable if name in own}  # tied ones have several names
    wrong[_MISSING] = [
        name
        for name in missing
        if id(own.get(name)) not in given
        and name not in unusable
        and not name.endswith("num_batches_tracked")
    ]
    wrong[_EXTRA] = [name for name in extra if usable[name].is_floating_point()]

    # Whatever is wrong must lie where no block needs it, which NaN shows.
    lacking = [name for why, names in wrong.items() if why != _EXTRA for name in names]
    modules = dict(model.named_modules())
    numbered = {re.sub(r"\d+$", "", child) for child, _ in model.named_children()}
    fatal = any(name not in own or not own[name].is_floating_point() for name in lacking)
    around = []  # modules of the network in which the file has more than it
    for name in wrong[_EXTRA]:
        child, inside = name.partition(".")[0], name
        while inside not in modules:
            inside = inside.rpartition(".")[0]
        around += [inside] if inside else []
        fatal |= not inside and (not _HEADS.match(child) or re.sub(r"\d+$", "", child) in numbered)
    reason = ""
    if not fatal and (lacking or around):
        lacking += [
            name
            for name, value in own.items()
            if name not in lacking
            and value.is_floating_point()
            and name.startswith(tuple(f"{module}." for module in around))
        ]
        with torch.no_grad():
            for name in lacking:
                own[name].fill_(torch.nan)
        reason = _needed(model, blocks, size, around)
    if fatal or reason:
        counts = (
            f"{len(names)} {why} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
            for why, names in wrong.items()
            if names
        )
        differ = any(wrong.get(why) for why in (_MISSING, _EXTRA, _SHAPE))
        raise ValueError(
            f"{'is from a different network' if differ else 'cannot be used'}: of its "
            f"{len(found.state)} entries and the network's {len(own)}, {'; '.join(counts)}{reason}"
        )
    unused = [name for name in found.state if name not in usable or name in extra]
    return replace(found, state=usable, left_out=found.left_out + unused, lacking=lacking)


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
    # What the network has itself from the start, such as a mask of -inf, may be there.
    if not (converted.isfinite() | ~own.detach().cpu().isfinite()).all():
        return value, "are not finite"
    whole = not own.is_floating_point() and not own.is_complex()
    if whole and not torch.equal(converted.to(value.dtype), value):
        return value, "are not whole numbers"
    return converted, None


def _needed(model, blocks, size, around):
    """Which block needs what is NaN, in words; "" if all are finite for an image of noise."""
    found, errors = [], []

    def take(name, output):
        if name in around and isinstance(output, torch.Tensor):
            output = output * torch.nan
        for part in tensors_in(output) if name in blocks else ():
            volume = part.ndim > 2 and part.shape[-2:] != (1, 1)
            found.append((name, volume, bool(part.isfinite().all())))
        return output

    for side in dict.fromkeys((size, 32, 64, 28)):  # some networks take images of one size only
        noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        found.clear()
        try:
            with block_outputs(model, dict.fromkeys([*around, *blocks]), take) as run:
                run(noise)
            break
        except Exception as error:
            errors.append(str(error).partition("\n")[0])
    else:
        why = f"the network does not run ({errors[0]})"
        return f", and whether blocks need them is not known: {why}"
    volumes = any(volume for _, volume, _ in found)
    hurt = [name for name, volume, finite in found if not finite and (volume or not volumes)]
    return f", which matters to block {hurt[0]!r}" if hurt else ""
