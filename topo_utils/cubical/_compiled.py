"""Functions as machine code, which is kept on disk where numba keeps it, and checked.

What is damaged is made again, and where nothing can be kept every process compiles for itself.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
import warnings
from pathlib import Path

import numba
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.serialize import dumps

_NOT_KEPT = (
    "compiled code cannot be kept on disk, so that every process compiles for some seconds; set "
    "NUMBA_CACHE_DIR to a folder that can be written"
)


def compiled(function):
    """The function as machine code, which does not hold the GIL."""
    code = njit(nogil=True)(function)
    try:
        code._cache = _CheckedCache(function)
    except RuntimeError:  # numba found no folder that can be written
        _warn_once(_NOT_KEPT)
    return code


class _CheckedCache(FunctionCache):
    """numba's cache of a function, in files that are checked."""

    def __init__(self, function):
        super().__init__(function)
        # What a function calls is compiled into it: the files beside its own count as well.
        origin = self._impl.locator.get_source_stamp(), _digest_of(Path(inspect.getfile(function)))
        self._cache_file = _CheckedFiles(self.cache_path, self._impl.filename_base, origin)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:
            _warn_once(_NOT_KEPT)


class _CheckedFiles(IndexDataCacheFile):
    """One file a signature: a SHA-256 of the rest, one of what the code was made from, the code."""

    def load(self, key):
        path = self._path(key)
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None  # it has not been made yet
        except OSError:
            content = b""
        if self._checksum(path, content[32:]) != content[:32]:
            _warn_once(f"compiled code in {self._cache_path} is damaged and is made again")
            return None
        return pickle.loads(content[64:]) if content[32:64] == self._origin() else None

    def save(self, key, data):
        path, content = self._path(key), self._origin() + dumps(data)
        with self._open_for_write(path) as file:
            file.write(self._checksum(path, content) + content)

    def _path(self, key):
        number = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8])
        return Path(self._data_path(self._data_name(number)))

    def _origin(self):
        return hashlib.sha256(repr((numba.__version__, self._source_stamp)).encode()).digest()

    @staticmethod
    def _checksum(path, content):
        # With the name: a sound file of something else is no good under it.
        return hashlib.sha256(path.name.encode() + content).digest()


@functools.cache
def _digest_of(file):
    """SHA-256 of all Python files in the file's folder."""
    sources = sorted(file.parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


@functools.cache
def _warn_once(message):
    warnings.warn(message, stacklevel=2)
