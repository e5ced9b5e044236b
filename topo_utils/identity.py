"""By what a network is known: its parts, their tensors and attributes, and the code that it runs.

Code is read from the objects that run, not from files, which may have been edited since they were
imported: the bytecode of the user's own functions, with all that they refer to. For an installed
library, its name and version stand for its code.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import functools
import importlib
import os
import platform
import random
import re
import site
import sys
import sysconfig
import threading
import types
import weakref
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import accumulate
from operator import attrgetter

import numpy as np
import torch
from torch import nn

from topo_utils import store


class Unknown(TypeError):
    """It cannot be told from outside what a network computes; `parts` has its lines, or is None."""

    parts = None


def describe(network, **more):
    """All that decides what a network computes, line by line.

    Two networks with the same lines compute the same, in this process or another.

    Parameters
    ----------
    network : torch.nn.Module
        Its training mode makes no difference.
    **more
        Further objects on which the result depends, by name.

    Returns
    -------
    own, code : list of str
        Lines for the network's parts, with their tensors and attributes, and for the further
        objects; and lines for the functions and classes that they use, with what these refer to.
        Each line begins with a place, such as ``layer1.0.conv1.weight``.

    Raises
    ------
    Unknown
        Something cannot be described, such as an open file, compiled code of the user's own, or a
        call of ``eval``. The message names it.
    """
    lines, own = _Lines(), None
    everywhere = nn.modules.module
    hooks = everywhere._global_forward_hooks, everywhere._global_forward_pre_hooks
    try:
        lines.add("", network)
        lines.add("global hooks", [list(kind.values()) for kind in hooks])
        for name, value in more.items():
            lines.add(name, value)
        own, lines.said = lines.said, []
        lines.type(torch.Tensor)  # which may have been given methods
        lines.finish()
    except Exception as error:  # objects of the user's own may raise anything
        if not isinstance(error, Unknown):
            place = ".".join([*filter(None, lines.place)][:5]) or type(network).__name__
            error = Unknown(f"what it computes cannot be told from {place}: {type(error).__name__}")
        error.parts = own
        raise error from None
    libraries = sorted({(module or "builtins").partition(".")[0] for module in lines.libraries})
    return own, lines.said + [f"{library}: {_version(library)}" for library in libraries]


#: Attributes of modules that change nothing that they compute in eval mode.
_NO_MATTER = re.compile("training|weights_name|_compiled_call_impl|_is_full_.*hook|_.*_hooks")
#: Values that are known by how they print.
_PLAIN = (bool, int, float, complex, str, bytes, range, type(None), type(...), type(NotImplemented))
_PLAIN += (torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype)
_CODE = "argcount posonlyargcount kwonlyargcount flags names varnames freevars cellvars code "
_CODE += "exceptiontable consts"
#: What values of these types consist of.
_MADE_OF = {
    tuple: list,
    list: list,
    types.CodeType: attrgetter(*(f"co_{part}" for part in _CODE.split())),
    types.MethodType: attrgetter("__func__", "__self__"),
    staticmethod: lambda value: [value.__func__],
    classmethod: lambda value: [value.__func__],
    property: attrgetter("fget", "fset", "fdel"),
    functools.cached_property: lambda value: [value.func],
    functools._lru_cache_wrapper: lambda value: [value.__wrapped__],
    types.MappingProxyType: lambda value: [dict(value)],
    weakref.ref: lambda value: [value()],
    **dict.fromkeys((set, frozenset), lambda value: sorted(value, key=_digest)),
}
#: Their state is that of the process: a network that draws from a generator is never the same.
_PROCESS = (random.random.__self__, np.random.rand.__self__, torch.default_generator)
_LOCKS = type(threading.Lock()), type(threading.RLock())
#: What code reaches through these depends on texts that are made as it runs.
_REACH_ANYTHING = (eval, exec, globals, __import__, importlib.__import__, importlib.import_module)
_REACH_ANYTHING += (sys.modules, os.environ, os.getenv)
#: Names by which code reaches attributes whose names it does not contain.
_BY_NAME = {"getattr", "attrgetter", "methodcaller", "vars", "__dict__", "dir", "getmembers"}
#: Operators of these libraries are installed; others may be the user's own.
_OPERATORS = ("aten", "prim", "prims", "quantized", "torchvision")


class _Lines:
    """The lines said so far, and what is still to be told."""

    def __init__(self):
        self.said, self.place, self.libraries = [], [], set()
        #: Functions and classes: (name that code must contain or None, place, what tells it, it).
        self.waiting = []
        self.names = {"eval", "to"}  # in all code so far; and these, which a profile calls
        self.seen, self.types = {}, set()

    @property
    def where(self):
        return ".".join(filter(None, self.place))

    def say(self, *said):
        self.said.append(f"{self.where}: {' '.join(map(str, said))}")

    def wait(self, tell, value, name=None):
        self.waiting.append((name, [*self.place], tell, value))

    def unknown(self, value):
        raise Unknown(
            f"what it computes cannot be told from {self.where or 'its class'}, which is of type "
            f"{_name(type(value))}"
        )

    def add(self, name, value, names=None):
        """Tell a value at a place; of a module only the attributes with `names`."""
        self.place.append(str(name))
        if isinstance(value, types.ModuleType):
            self.module(value, names)
        else:
            self.value(value)
        self.place.pop()

    def finish(self):
        """Tell all code that is reached."""
        ready = True
        while ready:
            ready, waiting = [], []
            for item in self.waiting:
                called = item[0] is None or not self.names.isdisjoint({item[0], *_BY_NAME})
                (ready if called else waiting).append(item)
            self.waiting = waiting
            for _, self.place, tell, value in ready:
                tell(value)

    def value(self, value):
        kind = type(value)
        mutable = kind not in (*_PLAIN, *_LOCKS, tuple, frozenset, types.CodeType)
        if mutable and id(value) in self.seen:
            self.say("as", self.seen[id(value)][0])
            return
        if mutable:  # it is kept, so that no other gets its id
            self.seen[id(value)] = self.where, value
        if kind in _PLAIN:
            told = hex(value) if kind is int else repr(value)  # large integers have no repr
            self.say(kind.__name__, told if len(told) < 1000 else store.digest(told))
        elif kind in _LOCKS or any(value is known for known in _PROCESS):
            self.say(kind.__name__)
        elif _reaches_anything(value):
            self.unknown(value)
        elif isinstance(value, torch.Tensor):
            self.tensor(value)
        elif isinstance(value, nn.Module):
            self.network(value)
        elif isinstance(value, types.FunctionType):
            self.say("function", value.__qualname__)
            self.wait(self.function, value)
        elif isinstance(value, type):
            self.type(value)
        elif kind is dict:
            self.say("dict", len(value))
            for i, (key, part) in enumerate(value.items()):
                if not isinstance(key, str):
                    self.add(f"key {i}", key)
                    key = i
                self.add(key, part)
        elif kind in _MADE_OF:
            parts = _MADE_OF[kind](value)
            self.say(_name(kind), len(parts))
            for i, part in enumerate(parts):
                self.add(i, part)
        elif isinstance(value, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            if re.match(r"\w+", str(value))[0] not in _OPERATORS:
                self.unknown(value)
            self.say("operator", value)
        else:
            self.reduced(value)

    def tensor(self, value):
        try:
            self.say(value.dtype, tuple(value.shape), store.digest(value))
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # it has no plain values
            self.unknown(value)
        if type(value) not in (torch.Tensor, nn.Parameter, nn.Buffer):
            self.type(type(value))
        if vars(value):
            self.add("", vars(value))

    def network(self, module):
        if type(module).__name__ == "OptimizedModule":
            module = module._orig_mod  # torch.compile's computes the same, and counts its runs
        self.type(type(module))
        hooks = {}  # their keys are numbers that count all hooks of the process
        traced = isinstance(module, torch.fx.GraphModule)  # of which the code is told
        for name, value in sorted(vars(module).items()):
            if re.fullmatch("_forward_(pre_)?hooks.*", name):
                for key, hook in value.items():
                    self.add(f"{name}.{hooks.setdefault(key, len(hooks))}", hook)
            elif name in ("_parameters", "_buffers", "_modules"):
                self.say(name, list(value))
                for part, content in value.items():
                    self.add(part, content)
            elif not _NO_MATTER.fullmatch(name) and not (traced and name == "_graph"):
                self.add(name, value)

    def function(self, function):
        code = function.__code__
        names = _names(code)
        own = not _is_installed(code.co_filename)
        if own:
            self.value(code)
            self.names |= names
            if "__subclasses__" in names:  # they depend on what else was imported
                self.unknown(type.__subclasses__)
        else:
            home = function.__globals__.get("__name__")  # a wrapper has the names of what it wraps
            self.say("function", home, code.co_qualname)
            self.libraries.add(home)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            self.add(name, value, names)
        if function.__defaults__ or function.__kwdefaults__:
            self.add("defaults", [function.__defaults__, function.__kwdefaults__])
        if own:
            if vars(function):
                self.add("", vars(function))
            known = {**vars(builtins), **function.__globals__}
            for name in sorted(_names(code, _GLOBAL) & known.keys()):
                self.add(name, known[name], names)
            packages = accumulate((known.get("__package__") or "").split("."), "{}.{}".format)
            for package in ["", *packages]:  # what is imported in the function itself
                for name in sorted(_names(code, ("IMPORT_NAME",))):
                    if module := sys.modules.get(f"{package}.{name}".strip(".")):
                        self.add(module.__name__, module, names)

    def module(self, module, names):
        own, known = not _is_installed_module(module.__name__), vars(module)
        if not own:
            self.say("module", module.__name__)
            self.libraries.add(module.__name__)
        elif names is None:
            self.unknown(module)
        elif names & _BY_NAME:
            kinds = (types.FunctionType, type, *_PLAIN)
            names |= {n for n, v in known.items() if isinstance(v, kinds) and n[:2] != "__"}
        names = {*(names or ()), *(["__getattr__"] if own else [])}
        seen = self.seen.setdefault(id(module), ("", module, set()))[2]
        # Of what is installed, only what may have been put in the place of something else.
        kinds = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, *_PLAIN)
        for name in sorted(names & known.keys() - seen):
            seen.add(name)
            if own or isinstance(known[name], kinds) or _reaches_anything(known[name]):
                self.add(name, known[name], names)

    def type(self, class_):
        self.say("class", class_.__qualname__)
        if class_ not in self.types:
            self.types.add(class_)
            if type(class_) is not type:
                self.type(type(class_))
            self.waiting.append((None, [class_.__qualname__], self.bases, class_))

    def bases(self, class_):
        for base in class_.__mro__[:-1]:
            own = not _is_installed_module(base.__module__)
            self.say("of", base.__qualname__ if own else _name(base))
            if not own:
                self.libraries.add(base.__module__)
            elif _file(base.__module__).endswith(tuple(EXTENSION_SUFFIXES)):
                self.unknown(base)
            for name, value in sorted(vars(base).items()):
                function = getattr(value, "__func__", value)
                code = function.__code__ if isinstance(function, types.FunctionType) else None
                told = own and name != "_abc_impl" and (callable(function) or name[:2] != "__")
                if told or (code and not _is_installed(code.co_filename)):  # also what was put in
                    # A network has methods that take no part in a forward pass.
                    if not issubclass(class_, nn.Module) or name == "forward":
                        self.add(name, value)
                    elif name not in ("__init__", "__new__"):
                        called = None if name[:2] == "__" else name
                        self.wait(functools.partial(self.add, name), value, called)
                elif code:
                    self.names |= _names(code) - _BY_NAME
                    if name == "forward":  # what it calls may have been replaced
                        for called in sorted(_names(code, _GLOBAL) & function.__globals__.keys()):
                            target = function.__globals__[called]
                            if isinstance(target, types.FunctionType | types.ModuleType):
                                self.add(called, target, _names(code))

    def reduced(self, value):
        """Any other object, by what pickle and copy would make it again of."""
        module = getattr(value, "__module__", None) or type(value).__module__
        name, home = getattr(value, "__name__", ""), sys.modules.get(module)
        try:
            reduce = copyreg.dispatch_table.get(type(value), lambda value: value.__reduce_ex__(4))
            # pybind11 would make its functions again by `eval`.
            known = type(value) is types.BuiltinFunctionType and getattr(home, name, None) is value
            parts = name if known else reduce(value)
        except Exception:
            self.unknown(value)
        if isinstance(parts, str):  # something that its module has under this name
            if getattr(home, parts, None) is not value or not _is_installed_module(module):
                self.unknown(value)
            self.say("object", module, parts)
            self.libraries.add(module)
            return
        make, arguments, state, listed, by_key = (*parts, None, None, None)[:5]
        self.say("object", _name(type(value)))
        self.add("", [make, arguments, state, list(listed or ()), dict(by_key or ())])


def _reaches_anything(value):
    return any(value is known for known in _REACH_ANYTHING)


def _digest(value):
    """Puts the elements of sets in the same order in all processes."""
    lines = _Lines()
    lines.add("", value)
    lines.finish()
    return store.digest(*lines.said)


def _name(class_):
    return f"{class_.__module__}.{class_.__qualname__}"


_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


@functools.lru_cache(10_000)
def _names(code, how=None):
    """The names in a function's code and in the functions within it, or those used in one way."""
    names = set(code.co_names)
    if how:
        names = {step.argval for step in dis.get_instructions(code) if step.opname in how}
    within = (_names(part, how) for part in code.co_consts if isinstance(part, types.CodeType))
    return frozenset(names.union(*within))


@functools.cache
def _is_installed(file):
    """Whether a file belongs to Python or to an installed library; if not, it may be edited."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    folders = tuple(os.path.realpath(folder) + os.sep for folder in folders)
    return file.startswith("<frozen ") or os.path.realpath(file).startswith(folders)


def _file(module):
    return getattr(sys.modules.get(module), "__dict__", {}).get("__file__") or ""


def _is_installed_module(name):
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return name is None
    if _file(name):
        return _is_installed(_file(name))
    # Built in, or a package without a file of its own.
    return name.partition(".")[0] in sys.stdlib_module_names or name.startswith("torch.")


_distributions = functools.cache(metadata.packages_distributions)


@functools.cache
def _version(top):
    if top in sys.stdlib_module_names:
        return platform.python_version()
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return [(name, metadata.version(name)) for name in _distributions().get(top, ())]
