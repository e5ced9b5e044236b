"""Files and folders appear whole or not at all, and nobody who reads the old ones is disturbed."""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path):
    """Write a file or a folder that takes the place of another one only when it is complete.

    Whoever has the old file open goes on reading that one. If the block fails, the old one stays.
    Of two writers the one that finishes last wins.

    Parameters
    ----------
    path : path
        Its folder is made if need be. A symbolic link stays one: its target is replaced. A device
        or a pipe is written to as it is.

    Yields
    ------
    pathlib.Path
        Where to write: a name in the same folder, without the suffix of `path`.
    """
    path = Path(os.path.realpath(path))
    if _is_special(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short: `path` with something added might be too long for the system.
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        if part.is_dir():
            _replace_folder(part, path)
        else:
            with suppress(FileNotFoundError):
                shutil.copymode(path, part)
            part.replace(path)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)  # does nothing to a file
        part.unlink(missing_ok=True)


def _is_special(path):
    return path.exists() and not (path.is_file() or path.is_dir())


def _replace_folder(new, old):
    """Put a folder in the place of another one, which then has the new one's place, or is gone."""
    for left in old.parent.glob(f".{'?' * 16}.part"):  # by a process that was killed
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - 3600:
                shutil.rmtree(left)
    put_back(old)
    try:
        new.rename(old)  # nothing is there yet
    except OSError:
        if _exchange(new, old):
            return
        away = _aside(old)
        shutil.rmtree(away, ignore_errors=True)
        try:
            old.rename(away)  # for a moment there is no folder
            new.rename(old)
        finally:
            put_back(old)
            shutil.rmtree(away, ignore_errors=True)


def put_back(folder):
    """Undo what `replacing` had begun if it was killed while the folder was away."""
    folder = Path(os.path.realpath(folder))
    if not folder.exists():
        with suppress(FileNotFoundError):
            _aside(folder).rename(folder)


def _aside(folder):
    """Where the old folder is while a new one takes its place, if they cannot be swapped."""
    return folder.with_name(f".{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:16]}.old")


def _exchange(one, other):
    """Swap two folders in one step, so that both names always exist; False if it cannot be done."""
    one, other = os.fsencode(one), os.fsencode(other)
    here, swap = -100, 2  # AT_FDCWD, and RENAME_EXCHANGE or RENAME_SWAP
    try:
        if sys.platform == "darwin":
            return ctypes.CDLL(None).renamex_np(one, other, swap) == 0
        return ctypes.CDLL(None).renameat2(here, one, here, other, swap) == 0
    except (AttributeError, OSError, TypeError):  # another system
        return False


def check_place(path):
    """Raise the error now that writing a file or a folder there would raise after the work.

    Nothing is made, neither the file nor the folders above it.

    Raises
    ------
    OSError
        No right to write there, a name that is too long, or a file where a folder is needed.
    """
    path = Path(os.path.realpath(path))
    if _is_special(path):
        return
    folder = next((parent for parent in path.parents if os.path.lexists(parent)), path)
    # Each name by itself too: the system checks a name only if the folder above it exists.
    for place in (path, *(folder / name for name in path.relative_to(folder).parts)):
        with suppress(FileNotFoundError):
            place.lstat()
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


@contextmanager
def locked(folder, say=print):
    """Let no other process work in a folder at the same time: the second waits, and says so.

    The lock goes when its process ends, however it ends. There is none in a folder that does not
    exist, or in which nothing can be written.
    """
    from filelock import FileLock, Timeout

    if not Path(folder).is_dir():
        yield
        return
    lock, owner = FileLock(Path(folder) / ".lock"), Path(folder) / ".lock.pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = "another process"
        with suppress(OSError):
            who = f"process {owner.read_text(encoding='utf-8')}"
        say(f"{who} is at work in {folder}: waiting until it is done", flush=True)
        lock.acquire()
    except OSError:
        pass
    try:
        if lock.is_locked:
            with replacing(owner) as part:
                part.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        if lock.is_locked:
            owner.unlink(missing_ok=True)
            lock.release()
