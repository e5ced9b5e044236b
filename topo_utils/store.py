"""What was computed is kept on disk by content: profiles, and weights of trained small networks.

The name of a file is a SHA-256 of all that its content follows from, so that nothing is ever out of
date: what changes gets another name. The format is safetensors (arrays behind a header of JSON, no
pickle), with a checksum of its own. A reader never sees half of a file, and of two runs that write
the same, either may win.

    profiles/KEY.safetensors    Betti numbers of one batch of images
    weights/KEY.safetensors     a small network, trained (see `topo_utils.training`)
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from topo_utils.files import replacing


def cache_folder(cache=True):
    """Where things are kept, or None if they are not.

    Parameters
    ----------
    cache : bool or path
        A folder; False for none; True for ``$TOPO_UTILS_CACHE``, else ``_build/cache`` of the
        project, else ``~/.cache/topo_utils``. ``TOPO_UTILS_CACHE=off`` means none.

    Returns
    -------
    pathlib.Path or None

    Raises
    ------
    TypeError
        Anything else.
    """
    if isinstance(cache, str | os.PathLike):
        return Path(cache).expanduser()
    if not isinstance(cache, bool):
        raise TypeError(f"cache is {cache!r}; accepted: True, False, or the path of a folder")
    place = os.environ.get("TOPO_UTILS_CACHE", "")
    if not cache or place.lower() == "off":
        return None
    if place:
        return Path(place).expanduser()
    for folder in (Path.cwd(), Path.cwd().parent, Path(__file__).parents[1]):
        if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
            return folder / "_build" / "cache"
    return Path("~/.cache/topo_utils").expanduser()


def list_cache(folder=None):
    """The files that are kept, those used last first.

    Parameters
    ----------
    folder : path, optional
        By default `cache_folder`; nothing is listed where that is off.

    Returns
    -------
    pandas.DataFrame
        One row a file: ``kind`` ("profiles", "weights"; "unfinished" for what a killed run
        left), ``what`` it holds, in words, ``bytes``, ``used`` (the time of its last use, UTC)
        and ``file``.
    """
    import pandas as pd

    folder, rows = folder or cache_folder(), []
    for file in Path(folder).glob("*/*") if folder else []:
        with suppress(FileNotFoundError):  # another run has just removed it
            stat = file.stat()
            if file.suffix == ".safetensors":
                kind, what = file.parent.name, _about(file).get("what", "damaged")
            elif file.suffix == ".part":
                kind, what = "unfinished", ""
            else:  # none of ours
                continue
            used = pd.Timestamp(stat.st_mtime, unit="s")
            rows.append((kind, what, stat.st_size, used, file))
    table = pd.DataFrame(rows, columns=["kind", "what", "bytes", "used", "file"])
    table = table.astype({"bytes": "int64", "used": "datetime64[ns]"})
    return table.sort_values("used", ascending=False, ignore_index=True)


def prune_cache(max_bytes, folder=None):
    """Remove files until no more than `max_bytes` are left, those unused for longest first.

    What a killed run left unfinished also goes once it is an hour old; until then another run may
    be writing it.

    Parameters
    ----------
    max_bytes : int
        0 removes everything.
    folder : path, optional
        By default `cache_folder`.

    Returns
    -------
    int, int
        How many files were removed, and how many bytes they had.

    Raises
    ------
    ValueError
        A size below 0.
    """
    import pandas as pd

    if not max_bytes >= 0:
        raise ValueError(f"max_bytes is {max_bytes!r}; accepted: a number of bytes from 0")
    table = list_cache(folder)
    unfinished = table["kind"] == "unfinished"
    total = table["bytes"].mask(unfinished, 0).cumsum()  # the file used last comes first
    old = table["used"] < pd.Timestamp(time.time() - 3600, unit="s")
    gone = table[old.where(unfinished, total > max_bytes)]
    for file in gone["file"]:
        file.unlink(missing_ok=True)
    return len(gone), int(gone["bytes"].sum())


def read(file):
    """Arrays and metadata of a file that `write` made, or None if it is not there or damaged.

    A warning names a damaged file; the caller computes its content again.
    """
    try:
        about = _about(file)
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        reason = str(error)
    else:
        if about.pop("sha256", None) == _checksum(file, tensors, about):
            with suppress(OSError):  # a folder that can only be read
                os.utime(file)  # `prune_cache` goes by the time of last use
            return tensors, about
        reason = "its content does not have the SHA-256 that it names"
    warnings.warn(f"{file} is damaged and is made again: {reason}", stacklevel=3)
    return None


def write(file, tensors, about):
    """Keep arrays and metadata in a file, or warn if that fails: it is only a cache.

    `about` holds texts by name; `list_cache` shows the one named ``what``.
    """
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # One entry: the order of several differs from run to run.
    header = json.dumps(about | {"sha256": _checksum(file, tensors, about)}, sort_keys=True)
    content = save(tensors, {"topo_utils": header})
    try:
        with replacing(file) as part:
            part.write_bytes(content)
    except OSError as error:
        warnings.warn(f"{file} could not be written, so it is not kept: {error}", stacklevel=3)


@functools.cache
def source_digest():
    """SHA-256 of the source of everything in this package that can change a measured integer."""
    total, root = hashlib.sha256(), Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        if name.parts[0] not in ("book", "__main__.py"):
            total.update(f"{name.as_posix()} {file.stat().st_size} ".encode() + file.read_bytes())
    return total.hexdigest()


def digest(*parts):
    """SHA-256 of texts, bytes, tensors and dicts of these, with names, types and shapes."""
    import torch

    total = hashlib.sha256()
    for part in parts:
        for name, value in sorted(part.items()) if isinstance(part, dict) else [("", part)]:
            if isinstance(value, torch.Tensor):
                name = f"{name} {value.dtype} {tuple(value.shape)}"
                # As bytes: numpy has no bfloat16.
                value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            value = value.encode() if isinstance(value, str) else value
            total.update(f"{name} {len(value)} ".encode())
            total.update(value)
    return total.hexdigest()


def _checksum(file, tensors, about):
    # With the name: a sound file of something else is no good under it.
    return digest(file.stem, json.dumps(about, sort_keys=True), tensors)


def _about(file):
    """What the header of a file says, unchecked; {} if it says nothing."""
    try:
        with safe_open(file, "np") as opened:
            return dict(json.loads((opened.metadata() or {}).get("topo_utils", "{}")))
    except (SafetensorError, ValueError, TypeError):
        return {}
