"""Code of the user's own: ``module:callable``, from the folder where the command is typed.

A module of that folder comes before any other of its name, but for this code only: a file that is
called like a library's never takes that library's place for others, nor do files of other folders.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import io
import os
import sys
import threading
import types
import warnings
from contextlib import chdir, contextmanager, redirect_stderr
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path

import torch

_PACKAGE = "own_code_"  # with a digest of the folder
_LOCK = threading.RLock()  # the settings that are kept belong to the whole process


def call_user_code(name):
    """What ``module:callable`` returns when it is called without arguments.

    The module is searched for in the folder that ``$TOPO_UTILS_CODE`` names, in the current one,
    then among what is installed. Its code sees no arguments of the command line, and settings of
    the process that it changes are set back: the working directory, the filters of warnings, and
    torch's default type, default device and number of threads.

    Raises
    ------
    ValueError
        Whatever this code raises, even if it ends the program.
    """
    module, _, attribute = name.partition(":")
    needed = "needed: module:callable, where the callable takes no arguments and gives the network"
    said = io.StringIO()  # what a parser of arguments says about its own usage is not shown
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
    argv, folders = sys.argv, [str(folder) for folder in _folders()]
    device, threads = torch.get_default_device(), torch.get_num_threads()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    sys.argv = argv[:1]
    sys.path += folders  # last: for what is imported by a name that is made up at run time
    try:
        with chdir("."), warnings.catch_warnings(), torch.set_grad_enabled(grad):
            yield
    finally:
        sys.argv = argv
        sys.path[:] = [entry for entry in sys.path if all(entry is not own for own in folders)]
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _folders():
    return [Path(place).resolve() for place in (os.environ.get("TOPO_UTILS_CODE") or ".", ".")]


def _module(name):
    """A module by name. If a module of its folder is called like another one, all modules of the
    folder are imported as parts of a package that stands for the folder.
    """
    importlib.invalidate_caches()
    folder = next((f for f in _folders() if any(file.is_file() for file in _files(name, f))), None)
    if folder is None or (name in sys.modules and not _taken(name, folder)):
        return importlib.import_module(name)
    top = name.partition(".")[0]
    names = {file.stem for file in folder.glob("*.py")} | {top}
    names |= {file.parent.name for file in folder.glob("*/__init__.py")}
    # There must be only one torch, and only one of us, whatever lies there.
    names = {part for part in names if part[:2] != "__" and part not in ("topo_utils", "torch")}
    if not any(_taken(part, folder) for part in names | {top}):
        return importlib.import_module(name)
    package = _PACKAGE + hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    stands_for = sys.modules.setdefault(package, types.ModuleType(package))
    stands_for.__path__, stands_for.names = [str(folder)], names
    if _Loader not in sys.meta_path:
        sys.meta_path.insert(0, _Loader)
    return importlib.import_module(f"{package}.{name}")


def _files(name, folder):
    path = folder.joinpath(*name.split("."))
    return path.with_name(f"{path.name}.py"), path / "__init__.py"


def _taken(name, folder):
    """Whether a name is that of a different module than the one in the folder."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # its parent is no package; it came from nowhere
        spec = None
    if spec is None:
        return name in sys.modules
    places = map(os.path.realpath, [spec.origin or "", *(spec.submodule_search_locations or [])])
    module, init = map(os.path.realpath, _files(name, folder))
    return {module, init, os.path.dirname(init)}.isdisjoint(places)


class _Loader(SourceFileLoader):
    """Finds the modules of such a package, and gives each an ``import`` of its own."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name.startswith(_PACKAGE) else None
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec

    def exec_module(self, module):
        package = module.__name__.partition(".")[0]
        module.__builtins__ = vars(builtins) | {"__import__": functools.partial(_import, package)}
        super().exec_module(module)


def _import(package, name, globals=None, locals=None, fromlist=(), level=0):
    """Imports what lies beside the importing module first."""
    top = name.partition(".")[0]
    if level == 0 and top in sys.modules[package].names:
        name = f"{package}.{name}"
        if not fromlist:  # `import a.b` binds a
            importlib.import_module(name)
            return sys.modules[f"{package}.{top}"]
    return builtins.__import__(name, globals, locals, fromlist, level)
