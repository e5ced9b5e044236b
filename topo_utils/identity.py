"""By what a network is known: its parts, their tensors and attributes, and the code that runs.

Code is read from the objects that run, not from files, which may have been edited since they were
imported: the bytecode of the user's own functions, with all that they refer to. Of what is
installed, the name and the version stand for the code.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import functools
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
from inspect import CO_VARARGS, CO_VARKEYWORDS
from pathlib import Path

import numpy as np
import torch
from torch import nn

from topo_utils import store

__all__ = ["Unknown", "describe"]


class Unknown(TypeError):
    """What a network computes cannot be told from outside; of its parts what can, or None."""

    parts = None


def describe(network, **more):
    """All that decides what a network computes, line by line.

    Two networks of the same lines compute the same, in this process or another.

    Parameters
    ----------
    network : torch.nn.Module
        Whether it is in training mode plays no part.
    **more
        Other objects on which the result depends, by name.

    Returns
    -------
    own, code : list of str
        Of the parts of the network, their tensors and attributes, and of the other objects; and of
        the functions and classes, which other networks may use as well, with what they refer to.
        Each line begins with a place, such as ``layer1.0.conv1.weight``.

    Raises
    ------
    Unknown
        Something in it cannot be described: locks, open files, compiled code of the user's own. The
        message says what.
    """
    lines, own = _Lines(), None
    try:
        for name, value in {"": network, "global hooks": _global_hooks(), **more}.items():
            lines.named(name, value)
        lines.named("Tensor", _put_in(torch.Tensor))
        own, lines.said = lines.said, []
        lines.finish()
    except Exception as error:  # whatever objects of the user's own may raise
        if not isinstance(error, Unknown):
            place = ".".join([*filter(None, lines.place)][:5]) or type(network).__name__
            error = Unknown(f"what it computes cannot be told from {place}: {type(error).__name__}")
        error.parts = own
        raise error from None
    return own, lines.said + [f"{top}: {_version(top)}" for top in sorted(lines.installed)]


def _global_hooks():
    known = vars(nn.modules.module)
    return {name: list(known[f"_global_{name}"].values()) for name in _HOOKS[:2]}


def _put_in(class_):
    """Functions of the user's own that a class of a library was given."""
    functions = {n: f for n, f in vars(class_).items() if isinstance(f, types.FunctionType)}
    return {n: f for n, f in functions.items() if not _is_installed(f.__code__.co_filename)}


#: Of the dictionaries of hooks, those that take part in a forward pass.
_HOOKS = (
    "forward_hooks",
    "forward_pre_hooks",
    "forward_hooks_with_kwargs",
    "forward_hooks_always_called",
    "forward_pre_hooks_with_kwargs",
)
_PLAIN = (bool, int, float, complex, str, bytes, range, type(None), type(...), type(NotImplemented))
_PLAIN += (torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype)
_COMPILED = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_MADE_OF = {
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools._lru_cache_wrapper: ("__wrapped__",),
}
#: Operators of these libraries are installed; others may be of the user's own.
_OPERATORS = ("aten", "prim", "prims", "quantized", "torchvision")
#: What reaches functions by a name that does not stand in the code: of a module, of any.
_OF_MODULES = {"getattr", "attrgetter", "methodcaller", "vars", "__dict__", "dir", "getmembers"}
_OF_ALL = {"eval", "exec", "globals", "import_module", "__import__"}
_ENVIRONMENT = {"environ", "getenv"}
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
#: Their state is the process's, not a network's: one that draws from them is never the same.
_GENERATORS = (random.random.__self__, np.random.rand.__self__, torch.default_generator)


class _Lines:
    def __init__(self):
        self.said, self.place, self.installed = [], [], set()
        # Functions and classes that are still to be told; methods that may be called; names of
        # attributes in all code so far.
        self.waiting, self.methods, self.names = [], [], {"eval", "to"}  # which a profile calls
        self.seen, self.types = {}, {}

    @property
    def where(self):
        return ".".join(filter(None, self.place))

    def say(self, *said):
        self.said.append(f"{self.where}: {' '.join(map(str, said))}")

    def named(self, name, value, names=None):
        """A value at a place; of a module, what the `names` in a function's code stand for."""
        self.place.append(str(name))
        if isinstance(value, types.ModuleType):
            self.module(value, names)
        else:
            self.add(value)
        self.place.pop()

    def finish(self):
        """Tell of all code that is reached."""
        while self.waiting:
            waiting, self.waiting = self.waiting, []
            for place, tell, value in waiting:
                self.place = place
                tell(value)
            for class_ in list(self.types.values()) if "__subclasses__" in self.names else ():
                if not _is_installed_module(class_.__module__) and not issubclass(class_, type):
                    for subclass in class_.__subclasses__():
                        self.type(subclass)
            methods, self.methods = self.methods, []
            for place, name, value in methods:
                special = name.startswith("__")
                if special or name in self.names or self.names & (_OF_MODULES | _OF_ALL):
                    self.place = place
                    self.named(name, value)
                else:
                    self.methods.append((place, name, value))

    def unknown(self, value):
        raise Unknown(
            f"what it computes cannot be told from {self.where or 'its class'}, which is of type "
            f"{_name(type(value))}"
        )

    def add(self, value):
        if type(value) in _PLAIN:
            # Of large integers there is no repr.
            self.say(type(value).__name__, hex(value) if type(value) is int else repr(value))
            return
        if isinstance(value, _LOCKS) or any(value is known for known in _GENERATORS):
            self.say(type(value).__name__)
            return
        # Objects that can contain themselves, which others cannot but through these.
        if not isinstance(value, tuple | frozenset | types.CodeType):
            if id(value) in self.seen:
                self.say("as", self.seen[id(value)][0])
                return
            self.seen[id(value)] = self.where, value  # kept: its id is not given again
        if isinstance(value, torch.Tensor):
            self.tensor(value)
        elif isinstance(value, nn.Module):
            self.network(value)
        elif isinstance(value, types.FunctionType):
            self.say("function", value.__qualname__)
            self.waiting.append(([*self.place], self.function, value))
        elif isinstance(value, type):
            self.type(value)
        elif isinstance(value, types.CodeType):
            self.code(value)
        elif type(value) in (tuple, list):
            self.say(type(value).__name__, len(value))
            for i, part in enumerate(value):
                self.named(i, part)
        elif type(value) in (set, frozenset):
            self.say(type(value).__name__, sorted(map(_digest_of, value)))
        elif isinstance(value, dict | types.MappingProxyType):
            self.say(_name(type(value)), len(value))
            for i, (key, part) in enumerate(value.items()):
                if not isinstance(key, str):
                    self.named(f"key {i}", key)
                self.named(key if isinstance(key, str) else i, part)
            if isinstance(value, dict) and type(value) is not dict:
                self.reduced(value, items=False)
        elif type(value) is np.ndarray and not value.dtype.hasobject:
            shape = value.dtype, value.shape
            self.say("array", *shape, store.digest(np.ascontiguousarray(value).tobytes()))
        elif type(value) in _MADE_OF:
            self.say(_name(type(value)))
            for part in _MADE_OF[type(value)]:
                self.named(part, getattr(value, part))
        elif isinstance(value, weakref.ref):
            self.say("weak")
            self.add(value())
        elif isinstance(value, _COMPILED):
            self.compiled(value)
        elif isinstance(value, torch.jit.ScriptFunction):
            self.scripted(value)
        elif isinstance(value, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            if str(value).partition(".")[0].partition("::")[0] not in _OPERATORS:
                self.unknown(value)
            self.say("operator", value)
        else:
            self.reduced(value)

    def scripted(self, value):
        graph = value.inlined_graph
        text = graph.str(False)
        if not {*re.findall(r"= (\w+)::", text)} <= {*_OPERATORS}:
            self.unknown(value)
        self.say("script", text)
        for node in graph.findAllNodes("prim::Constant"):  # of large tensors the text tells a part
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                self.tensor(node.t("value"))

    def tensor(self, value):
        try:
            self.say(value.dtype, tuple(value.shape), store.digest(value))
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # it has no plain values
            self.unknown(value)
        if type(value) not in (torch.Tensor, nn.Parameter, nn.Buffer):
            self.type(type(value))
        if vars(value):
            self.named("", vars(value))

    def network(self, module):
        if type(module).__name__ == "OptimizedModule":
            module = module._orig_mod  # torch.compile's computes the same, and counts its runs
        self.type(type(module))
        hooks = {}  # the keys are numbers that go up with every hook in the process
        for name, value in sorted(vars(module).items()):
            if name.removeprefix("_") in _HOOKS:
                for key, hook in value.items():
                    self.named(f"{name}.{hooks.setdefault(key, len(hooks))}", hook)
            elif name.endswith("_hooks") and name.startswith("_"):
                continue
            elif name in ("_parameters", "_buffers", "_modules"):
                self.say(name, list(value))
                for part, content in value.items():
                    self.named(part, content)
            elif name not in _NO_MATTER and not (
                name == "_graph" and isinstance(module, torch.fx.GraphModule)  # its code is told
            ):
                self.named(name, value)

    def function(self, function):
        code = function.__code__
        own = not _is_installed(code.co_filename)
        if own:
            self.code(code)
            self.names |= _names(code)
        else:
            home = function.__globals__.get("__name__")  # a wrapper has the names of what it wraps
            self.say("function", home, code.co_qualname)
            self.of_library(home)
        names = _names(code)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not yet filled
                continue
            self.named(name, value, names)
        if function.__defaults__ or function.__kwdefaults__:
            self.named("defaults", [function.__defaults__, function.__kwdefaults__])
        if own:
            if vars(function):
                self.named("", vars(function))
            self.globals(code, function.__globals__, names)

    def globals(self, code, known, names):
        """What the names in a function's code stand for."""
        package = known.get("__package__") or ""
        used, imported = _names(code, _GLOBAL), _names(code, ("IMPORT_NAME",))
        for name in sorted(used & {**vars(builtins), **known}.keys()):
            self.named(name, known[name] if name in known else vars(builtins)[name], names)
        if used & _OF_ALL or "import_module" in names or names >= {"sys", "modules"}:
            texts = _texts(code)
            imported |= texts
            words = names.union(*(re.findall(r"\w+", text) for text in texts)) - used
            for name, value in sorted(known.items()):
                if name in words or (
                    name not in used and isinstance(value, types.FunctionType | type)
                ):
                    self.named(name, value, names)
        for name in sorted(imported):  # in the function itself
            for module in (name, f"{package}.{name}"):
                if module in sys.modules:
                    self.named(module, sys.modules[module], names)
        for name in sorted(_texts(code) & os.environ.keys() if names & _ENVIRONMENT else ()):
            self.say("environment", name, repr(os.environ[name]))

    def module(self, module, names):
        own = not _is_installed_module(module.__name__)
        if not own:
            self.say("module", module.__name__)
            self.of_library(module.__name__)
        elif names is None:
            self.unknown(module)
        elif names & (_OF_MODULES | _OF_ALL):
            names = names | {
                name
                for name, value in vars(module).items()
                if isinstance(value, types.FunctionType | type) or type(value) in _PLAIN
            }
            names = {name for name in names if not name.startswith("__")}
        if own:
            names = names | {"__getattr__"}
        seen = self.seen.setdefault(id(module), (self.where, module, set()))[2]
        for name in sorted((names or set()) & vars(module).keys() - seen):
            value = vars(module)[name]
            seen.add(name)
            # Of what is installed, only what may have been put in the place of something else.
            kinds = (types.ModuleType, types.FunctionType, *_COMPILED, *_PLAIN)
            if own or isinstance(value, kinds):
                self.named(name, value, names)

    def code(self, code):
        self.say(
            "code",
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags & (CO_VARARGS | CO_VARKEYWORDS),
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            code.co_code.hex(),
            code.co_exceptiontable.hex(),
        )
        for constant in code.co_consts:
            self.add(constant)

    def type(self, class_):
        self.say("class", class_.__qualname__)
        if id(class_) not in self.types:
            self.types[id(class_)] = class_
            if type(class_) is not type:
                self.type(type(class_))
            self.waiting.append(([class_.__qualname__], self.bases, class_))

    def bases(self, class_):
        for base in class_.__mro__[:-1]:
            own = not _is_installed_module(base.__module__)
            self.say("of", base.__qualname__ if own else _name(base))
            if not own:
                self.of_library(base.__module__)
            for name, value in sorted(vars(base).items()):
                function = getattr(value, "__func__", value)
                code = function.__code__ if isinstance(function, types.FunctionType) else None
                special = name.startswith("__")
                told = code and not _is_installed(code.co_filename)  # also what was put in
                if told or (own and name != "_abc_impl" and (callable(function) or not special)):
                    # A network has methods for other times than a forward pass.
                    if not issubclass(class_, nn.Module) or name == "forward":
                        self.named(name, value)
                    elif name not in ("__init__", "__new__"):
                        self.methods.append(([*self.place], name, value))
                elif code:
                    self.names |= _names(code) - _OF_MODULES - _OF_ALL
                    if name == "forward":  # what it calls may have been replaced
                        for called in sorted(_names(code, _GLOBAL) & function.__globals__.keys()):
                            target = function.__globals__[called]
                            if isinstance(target, types.FunctionType | types.ModuleType):
                                self.named(called, target, _names(code))

    def compiled(self, value):
        owner = getattr(value, "__self__", None)
        of = getattr(value, "__objclass__", owner if isinstance(owner, type) else type(owner))
        # A class of the user's own may have it from one that is installed; slots are mere places.
        of = next((base for base in of.__mro__ if value.__name__ in vars(base)), of)
        module = getattr(value, "__module__", None) or of.__module__
        if isinstance(value, types.MemberDescriptorType):
            self.say("slot", value.__name__)
            return
        if not _is_installed_module(module):
            self.unknown(value)
        self.say("built in", module, value.__qualname__)
        self.of_library(module)
        # Functions of libraries that pybind11 made belong to a capsule.
        if not isinstance(owner, types.ModuleType) and type(owner).__name__ != "PyCapsule":
            self.named("__self__", owner)

    def reduced(self, value, items=True):
        """Any other object, by what pickle and copy would make it again of."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            parts = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:
            self.unknown(value)
        if isinstance(parts, str):  # something that its module has under this name
            module = getattr(value, "__module__", None) or type(value).__module__
            found = getattr(sys.modules.get(module), parts, None)
            if found is not value or not _is_installed_module(module):
                self.unknown(value)
            self.say("object", module, parts)
            self.of_library(module)
            return
        make, arguments, state, listed, by_key = (*parts, None, None, None)[:5]
        self.say("object", _name(type(value)))
        self.named("", [make, arguments, state])
        if items:
            self.named("", [list(listed or ()), list(by_key or ())])

    def of_library(self, module):
        self.installed.add((module or "builtins").partition(".")[0])


#: Attributes of modules that change nothing that they compute in eval mode.
_NO_MATTER = ("training", "weights_name", "_compiled_call_impl", "_is_full_backward_hook")


def _digest_of(value):
    own, code = describe(value)
    return store.digest(*own, *code)


def _name(class_):
    return f"{class_.__module__}.{class_.__qualname__}"


_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


@functools.lru_cache(10_000)
def _names(code, how=None):
    """The names in a function's code and in that of functions within it, or those so used."""
    names = set(code.co_names)
    if how:
        names = {step.argval for step in dis.get_instructions(code) if step.opname in how}
    within = (_names(part, how) for part in code.co_consts if isinstance(part, types.CodeType))
    return frozenset(names.union(*within))


@functools.lru_cache(10_000)
def _texts(code):
    """The texts in a function's code and in that of functions within it."""
    within = (_texts(part) for part in code.co_consts if isinstance(part, types.CodeType))
    return frozenset(part for part in code.co_consts if isinstance(part, str)).union(*within)


@functools.cache
def _is_installed(file):
    """Whether a file is of Python itself or of an installed library; if not, it may be edited."""
    if file.startswith("<frozen "):
        return True
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return os.path.realpath(file).startswith(tuple(os.path.realpath(f) + os.sep for f in folders))


def _is_installed_module(name):
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return name is None
    if isinstance(module, torch._ops._OpNamespace | torch._ops._Ops):
        return True
    file = vars(module).get("__file__")
    if file is None:  # built in, or a package without a file of its own
        return name.partition(".")[0] in sys.stdlib_module_names or name.startswith("torch.")
    return _is_installed(file)


_distributions = functools.cache(metadata.packages_distributions)


@functools.cache
def _version(top):
    if top in sys.stdlib_module_names:
        return platform.python_version()
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        names = _distributions().get(top, ())
        return [(name, metadata.version(name)) for name in names]


@functools.cache
def source_digest():
    """SHA-256 of the source of everything in this package that can change a measured integer."""
    root = Path(__file__).parent
    sources = sorted(file.relative_to(root) for file in root.rglob("*.py"))
    press = ("book", "__main__.py", "book.py", "sweep.py", "links.py", "pdf.py")
    sources = [file for file in sources if file.parts[0] not in press]
    return store.digest({file.as_posix(): (root / file).read_bytes() for file in sources})
