"""Two networks that may compute something else are told apart, and the same ones are the same."""

import builtins
import copy
import functools
import random
import re
import subprocess
import sys
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torchvision.models.feature_extraction import create_feature_extractor

from topo_utils import load_model
from topo_utils.identity import Unknown, describe

OWN = """
import dataclasses, enum, functools
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
import own_helpers
from own_helpers import act

SCALE = 2
TABLE = {"act": F.relu, 1: [np.array([1.0, 2.0])]}
WEIGHTS = torch.tensor([1.0, 2.0])

def helper(x):
    return F.relu(x) * SCALE + TABLE[1][0].sum() + WEIGHTS

def decorated(function):
    bound = 5
    @functools.wraps(function)
    def call(self, x):
        return function(self, x).clamp(max=bound)
    return call

@functools.lru_cache
def kept(x):
    return x + 11

class Kind(enum.Enum):
    soft = 13

@dataclasses.dataclass
class Config:
    slope: float = 0.25
    def shift(self, x):
        return x + 17

class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 19

class Base(nn.Module):
    factor = 23
    def before(self, x):
        return x + 29
    @staticmethod
    def fixed(x):
        return x * 31
    @property
    def offset(self):
        return 37

class Net(Base):
    def __init__(self):
        super().__init__()
        self.block = nn.Conv2d(3, 4, 3)
        self.block.weight.data.fill_(0.5)
        self.block.bias.data.fill_(0.5)
        self.scale, self.kind, self.config = 41, "by_name", Config()
        self.partial = functools.partial(F.leaky_relu, negative_slope=0.43)
        self.function = lambda x: x * 47
        self.tensor, self.hidden = torch.full((2,), 53.0), [nn.Threshold(0.59, 0)]
        self.fx = torch.fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Hardtanh(0, 61)))

    @torch.no_grad()
    def forward(self, x):
        x = self.before(x) if x.shape[-1] > 67 else x
        from own_helpers import late
        return self.rest(kept(late(x)), Kind.soft)

    @decorated
    def rest(self, x, alpha=71):
        x = [part * 73 for part in x][0]
        x = own_helpers.inner.deep(getattr(own_helpers, self.kind)(x))
        return by_text(act(helper(Step.apply(x))))

def by_text(x):
    return x + 79

def make():
    return Net()
"""
HELPERS = """
import types
def act(x):
    return -x * 83
def late(x):
    return x + 89
def by_name(x):
    return x + 97
inner = types.SimpleNamespace(deep=lambda x: x + 101)
"""


def lines(network):
    own, code = describe(network)
    return [*own, *code]


def made(own=OWN, helpers=HELPERS):
    """The network of two modules of a user's own, as they are after an edit."""
    modules = {name: types.ModuleType(name) for name in ("own_helpers", "own")}
    sys.modules.update(modules)
    try:
        exec(compile(helpers, "own_helpers.py", "exec"), modules["own_helpers"].__dict__)
        exec(compile(own, "own.py", "exec"), modules["own"].__dict__)
        return lines(modules["own"].make())
    finally:
        for name in modules:
            del sys.modules[name]


EDITS = [
    ("return F.relu(x)", "return F.relu6(x)"),
    ("SCALE = 2", "SCALE = 3"),
    ('{"act": F.relu,', '{"act": F.relu6,'),
    ("[np.array([1.0", "[np.array([7.0"),
    ("import act", "import by_name as act"),
    ("import late", "import by_name as late"),
    ("0.25", "0.75"),
    ('"by_name"', '"act"'),
    *((f"{n}", f"{n}1") for n in (5, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67)),
    *((f"{n}", f"{n}1") for n in (71, 73, 79, 83, 89, 97, 101)),
    ("[0]\n", "[-1]\n"),
    ("clamp(max=", "clamp(min="),
    ("@torch.no_grad()", "@torch.inference_mode()"),
    ("    @decorated\n", ""),
    ("nn.ReLU()", "nn.ReLU6()"),
    ("tensor([1.0", "tensor([7.0"),
    ("nn.Conv2d(3, 4, 3)", "nn.Conv2d(3, 4, 3, padding_mode='reflect')"),
    ("fill_(0.5)", "fill_(0.25)"),
    ("self.block = ", "self.extra = nn.Identity(); self.block = "),
]


#: Ways from a forward pass to a number 2: what stands before, and what is computed.
WAYS = {
    "metaclass": ("class Kind(type): factor = 2\nclass C(metaclass=Kind): pass", "x * C.factor"),
    "__getattr__": ("helpers.__getattr__ = lambda name: 2", "x * helpers.A"),
    "method of tensors": ("torch.Tensor.own = lambda self: self * 2", "x.own()"),
    "value in torch": ("torch.own = 2", "x * torch.own"),
    "built in": ("builtins.own = 2", "x * own"),
    "large": ("A = (1 << 20_000) + 2", "x * (A % 3)"),
    "masked": ("A = np.ma.array([3, 4], mask=[0, 2 != 3])", "x * A.sum()"),
    "slots": ("@dataclasses.dataclass(slots=True)\nclass C:\n    a: int = 2\nc = C()", "x * c.a"),
    "autograd": (
        "class Step(torch.autograd.Function):\n    @staticmethod\n"
        "    def forward(ctx, x): return x * 2\nstep = Step.apply",
        "step(x)",
    ),
    "methodcaller": (
        "class Sub:\n    def go(self, x): return x * 2\nm = operator.methodcaller('go', 1)",
        "m(Sub())",
    ),
    "lock": ("lock, A = threading.Lock(), 2", "lock and x * A"),
    "random numbers": ("from random import uniform\nA = 2", "x * A + uniform(0, random.random())"),
}
NAMES = "builtins dataclasses importlib operator os random sys threading torch types"


#: Ways to what depends on a text, on the environment, or on what else there is.
DARK_WAYS = {
    "subclasses": ("class Op:\n    def go(self, x): return x", "Op.__subclasses__()[0]().go(x)"),
    "globals": ("A = 2", "x * globals()['A']"),
    "sys.modules": ("A = 2", "x * sys.modules[__name__].A"),
    "eval": ("A = 2", "eval('x * A')"),
    "another name": ("class Names: run = eval", "Names.run('x')"),
    "import_module": ("helpers.A = 2", "x * importlib.import_module('helpers').A"),
    "environment": ("os.environ['OWN'] = '2'", "x * int(os.environ['OWN'])"),
    "variable": ("from os import getenv", "x * getenv('OWN')"),
    "script": ("step = torch.jit.trace(lambda x: x * 2, torch.ones(3))", "step(x)"),
}


def own_network(before, computed, monkeypatch):
    """A network that computes something, of a module of the user's own."""
    own, helpers = types.ModuleType("own"), types.ModuleType("helpers")
    monkeypatch.setitem(sys.modules, "own", own)
    monkeypatch.setitem(sys.modules, "helpers", helpers)
    source = f"import {', '.join(NAMES.split())}, helpers\nimport numpy as np\n{before}\n"
    source += f"class Net(torch.nn.Module):\n    def forward(self, x): return {computed}"
    exec(compile(source, "own.py", "exec"), vars(own))
    return own.Net()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_leads_to_it_is_told(way, monkeypatch):
    before, computed = WAYS[way]
    for place in torch, torch.Tensor, builtins:  # so that it is gone afterwards
        monkeypatch.setattr(place, "own", None, raising=False)
    told = []
    for number in "232":
        told.append(lines(own_network(before.replace("2", number), computed, monkeypatch)))
        random.random()
    assert told[0] == told[2] != told[1]


@pytest.mark.parametrize(
    "statement",
    [
        "from . import inner; A = inner.A",
        "from .inner import A",
        "from ..top import A",
        "from .. import top; A = top.A",
        "import pack.sub.inner as inner; A = inner.A",
        "import pack.top; A = pack.top.A",
    ],
)
def test_what_a_function_imports_is_told(statement, monkeypatch):
    told = []
    for number in "232":
        modules = {}
        for name in ("pack", "pack.sub", "pack.sub.net", "pack.sub.inner", "pack.top"):
            modules[name] = types.ModuleType(name)
            modules[name].__package__ = "pack.sub" if "sub" in name else "pack"
            monkeypatch.setitem(sys.modules, name, modules[name])
            above, _, last = name.rpartition(".")
            if above:
                setattr(modules[above], last, modules[name])
        modules["pack.sub.inner"].A = modules["pack.top"].A = int(number)
        source = "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        source += f"        {statement}; return x * A"
        exec(compile(source, "own.py", "exec"), vars(modules["pack.sub.net"]))
        told.append(lines(modules["pack.sub.net"].Net()))
    assert told[0] == told[2] != told[1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", DARK_WAYS)
def test_code_that_may_reach_anything_is_not_told(way, monkeypatch):
    monkeypatch.setenv("OWN", "")
    with pytest.raises(Unknown, match="what it computes cannot be told from "):
        describe(own_network(*DARK_WAYS[way], monkeypatch))


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_whatever_the_code_refers_to_is_told(old, new):
    old = re.compile(rf"(?<!\d){re.escape(old)}")
    edited = old.sub(new, OWN), old.sub(new, HELPERS)
    assert edited != (OWN, HELPERS)
    assert made(*edited) != made()


def test_what_makes_no_difference_is_not_told():
    assert made("# other line numbers\n\n" + OWN + "\nimages = []\n") == made()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    known = lines(network)
    assert lines(copy.deepcopy(network)) == known
    network.train(not network.training)
    network.weights_name = "with another name"
    network.register_forward_hook(print).remove()  # hooks are numbered all over the process
    assert lines(network) == known
    twice = [copy.deepcopy(network) for _ in range(2)]
    for same in twice:
        same.register_forward_pre_hook(print, with_kwargs=True)
        same[0].register_forward_hook(print, always_call=True)
    assert lines(twice[0]) == lines(twice[1]) != known


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_identity import Rich, lines, made
print(repr((made(), lines(Rich()))))
"""


class Rich(nn.Module):
    """Has of all that may differ from process to process: sets, addresses, numbers of objects."""

    def __init__(self):
        super().__init__()
        self.names = {"a", "b", "c", torch.float32, (1, "d")}
        self.objects = [object(), slice(1, None), re.compile("a+"), Path("a"), torch.Size([1])]
        self.functions = {F.relu: torch.sigmoid, "b": torch.Tensor.relu, max: [].append}
        self.bound = ["{}".format, torch.ones(2).sum, torch.ops.aten.relu, F.gelu, np.add.reduce]
        self.generator = torch.Generator().manual_seed(3)
        self.drawn = np.random.default_rng(3)
        self.kinds = (defaultdict(list, a=[1]), OrderedDict(b=2), Counter("abba"), np.add)
        self.weak, self.place = weakref.ref(F.relu), torch.device("cpu")
        self.fx = create_feature_extractor(load_model("fashion_plain_5"), ["stem"])
        self.plain = parametrizations.weight_norm(nn.Linear(2, 2))
        for parameter in self.plain.parameters():
            nn.init.ones_(parameter)

    def extra_repr(self):
        return f"{self.objects}"

    def forward(self, x):
        return self.fx(x)["stem"] + sum(self.functions, start=len(self.names & {"a", "b"}))


def test_the_same_network_is_known_in_another_process():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(Path(__file__).parent)]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert out == repr((made(), lines(Rich()))) + "\n"


def test_what_is_put_in_the_place_of_something_installed_is_told(monkeypatch):
    network = nn.Sequential(nn.ReLU())
    known = [lines(network)]
    for place, name, value in (
        (F, "relu", F.relu6),
        (nn.ReLU, "forward", lambda self, x: x),
        (network, "forward", lambda x: x),
        (network[0], "forward", types.MethodType(lambda self, x: x, network[0])),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            known.append(lines(network))
    with nn.modules.module.register_module_forward_hook(lambda *_: None):
        known.append(lines(network))
    assert len({tuple(told) for told in known}) == 6
    assert lines(network) == known[0]


@pytest.mark.parametrize(
    "value",
    [
        threading.local(),
        sys.stdout,
        (i for i in range(3)),
        torch.zeros(2).to_sparse(),
        torch.empty(2, device="meta"),
        nn.LazyLinear(2).weight,
        functools.partial(np.frompyfunc(lambda x: x, 1, 1)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("place", ["attribute", "global"])
def test_what_cannot_be_told_is_named(value, place, monkeypatch):
    class Net(nn.Module):
        def forward(self, x):
            return there(x)  # noqa: F821

    network = Net()
    monkeypatch.setitem(globals(), "there", value if place == "global" else abs)
    if place == "attribute":
        network.there = value
    with pytest.raises(Unknown, match=r"cannot be told from .*there.*, which is of type") as caught:
        describe(network)
    assert (caught.value.parts is None) == (place == "attribute")


def test_what_is_nested_too_deeply_is_not_told():
    network = nn.Sequential()
    network.nested = []
    for _ in range(3000):
        network.nested = [network.nested]
    with pytest.raises(Unknown, match=r"told from nested\.0\.0\.0\.0: RecursionError"):
        describe(network)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        torch.compile,
        torch.fx.symbolic_trace,
        lambda network: prune.l1_unstructured(network[0], "weight", 0.5) and network,
        lambda network: parametrizations.spectral_norm(network[0]) and network,
    ],
)
def test_networks_in_wrappers_are_told(wrap):
    def network(bias):
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        nn.init.constant_(inner[0].bias, bias)
        return wrap(inner)

    assert lines(network(1)) == lines(network(1)) != lines(network(2))
