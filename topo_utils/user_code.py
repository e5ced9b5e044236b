"""Code of the user's own: ``module:callable``, from the folder where it is typed.

A module of that folder comes before any other of its name, for this code only: a file that is
called as a library's never takes its place for others, nor do the files of another folder.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib.util
import io
import os
import sys
import threading
import types
import warnings
from contextlib import contextmanager, redirect_stderr
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

import torch

__all__ = ["call_user_code"]

_PACKAGE = "own_code_"  # and a digest of the folder
_LOCK = threading.RLock()  # what is set back afterwards belongs to the process


def call_user_code(name):
    """What ``module:callable`` gives when it is called without arguments.

    The module is searched for in the folder that ``$TOPO_UTILS_CODE`` names, in the current one,
    then among what is installed. Its code finds no arguments of the command line, and settings of
    the process that it changes are set back: the working directory, the filters of warnings, and
    torch's default type, default device and number of threads.

    Raises
    ------
    ValueError
        Whatever this code raises, be it the end of the program.
    """
    module, _, attribute = name.partition(":")
    needed = "needed: module:callable, where the callable takes no arguments and gives the network"
    said = io.StringIO()  # what a parser of arguments says of its own usage is not to be shown
    try:
        with _LOCK, _settings_kept(), redirect_stderr(said):
            return getattr(_module(module), attribute)()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, SystemExit):
            said.truncate(0)
            needed += ", and nothing reads the command line or ends the program"
        told = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"network {name!r}: {told}; {needed}") from error
    finally:
        print(said.getvalue(), end="", file=sys.stderr)


@contextmanager
def _settings_kept():
    argv, place, filters = sys.argv, Path.cwd(), list(warnings.filters)
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, folders = torch.get_num_threads(), [str(folder) for folder in _folders()]
    sys.argv = argv[:1]
    sys.path += folders  # last: for what is imported by a name that is made up at run time
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        sys.argv = argv
        os.chdir(place)
        if filters != list(warnings.filters):
            warnings.filters[:] = filters
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        for folder in folders:
            if folder in sys.path:
                del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


def _folders():
    folders = [os.environ.get("TOPO_UTILS_CODE") or Path.cwd(), Path.cwd()]
    return list(dict.fromkeys(Path(folder).resolve() for folder in folders))


def _module(name):
    """A module by name. Where its folder has one that is called as another module, all modules of
    this folder are imported as parts of a package that stands for the folder.
    """
    importlib.invalidate_caches()
    for folder in _folders():
        file = folder.joinpath(*name.split("."))
        if file.with_name(f"{file.name}.py").is_file() or (file / "__init__.py").is_file():
            break
    else:
        return importlib.import_module(name)
    top = name.partition(".")[0]
    beside = {path.stem for path in folder.glob("*.py")}
    beside |= {path.parent.name for path in folder.glob("*/__init__.py")}
    # There must be one torch only, and one of us, whatever lies there.
    names = {part for part in (beside | {top}) - {"topo_utils", "torch"} if part[:2] != "__"}
    imported = name in sys.modules and not _taken(name, folder)
    if imported or not any(_taken(part, folder) for part in names | {top}):
        return importlib.import_module(name)
    package = _PACKAGE + hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    stands_for = sys.modules.setdefault(package, types.ModuleType(package))
    stands_for.__path__, stands_for.names = [str(folder)], names
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    return importlib.import_module(f"{package}.{name}")


def _taken(name, folder):
    """Whether a name is that of another module than the one in the folder."""
    module = sys.modules.get(name)
    try:
        spec = module.__spec__ if module else importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if module is None and spec is None:
        return False
    places = [getattr(module, "__file__", None) or getattr(spec, "origin", None)]
    places += getattr(spec, "submodule_search_locations", None) or []
    path = folder.joinpath(*name.split("."))
    own = (path, path.with_name(f"{path.name}.py"), path / "__init__.py")
    return {*map(os.path.realpath, own)}.isdisjoint(map(os.path.realpath, filter(None, places)))


class _Finder:
    """Finds the modules of a package that stands for a folder."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith(_PACKAGE):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Gives a module an ``import`` of its own, which finds what lies beside it first."""

    def exec_module(self, module):
        package = module.__name__.partition(".")[0]
        module.__builtins__ = vars(builtins) | {"__import__": functools.partial(_import, package)}
        super().exec_module(module)


def _import(package, name, globals=None, locals=None, fromlist=(), level=0):
    top = name.partition(".")[0]
    if level == 0 and top in sys.modules[package].names:
        name = f"{package}.{name}"
        if not fromlist:  # `import a.b` binds a
            importlib.import_module(name)
            return sys.modules[f"{package}.{top}"]
    return builtins.__import__(name, globals, locals, fromlist, level)
