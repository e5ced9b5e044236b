"""Code of one's own: it is found whatever it is called, and leaves the process as it was."""

import importlib
import inspect
import os
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from topo_utils import load_model
from topo_utils.__main__ import main

CODE = """\
from torch import nn
{imports}

class Network(nn.Module):
    def __init__(self, width={width}):
        super().__init__()
        self.a = nn.Conv2d(3, width, 3)

    def forward(self, images):
        return self.a(images)

def build():
    return Network()
"""


def write(place, name, width=4, imports=""):
    file = place / f"{name.replace('.', '/')}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CODE.format(width=width, imports=imports), encoding="utf-8")
    return file


@pytest.fixture
def place(tmp_path, monkeypatch):
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOPO_UTILS_CODE", raising=False)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


# Imported already, built in, frozen, not imported yet; installed; ours; a test's own.
NAMES = ["random", "time", "os", "code", "types", "this", "antigravity", "test", "statistics"]
NAMES += ["numpy", "topo_utils", "torch", "pytest", "conftest", "site", "models", "my_code"]


@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_ones_own_may_be_called_as_any_other(place, name):
    others, path = dict(sys.modules), list(sys.path)
    taken = name in others or importlib.util.find_spec(name)
    file = write(place, name, width=7)
    for _ in range(2):
        model = load_model(f"{name}:build")
        assert model.a.out_channels == 7
    kind = type(model)
    assert inspect.getsourcefile(kind) == inspect.getsourcefile(kind.forward) == str(file)
    assert inspect.getsource(kind).startswith("class Network")
    assert type(load_model(f"{name}:Network")) is kind
    assert type(pickle.loads(pickle.dumps(model))) is kind
    assert model.weights_name == f"as {name}:build gives them"
    # Nothing is in another's place.
    assert sys.path == path
    assert all(sys.modules[other] is module for other, module in others.items())
    if taken:
        assert getattr(sys.modules.get(name), "__file__", None) != str(file)


def test_what_lies_beside_it_is_its_own_too(place):
    beside = (
        "import statistics, code.inner, queue as line\n"
        "from random import WIDTH\nfrom code import inner as again, other\n"
        "import math, torch, collections.abc\n"
        "assert code.inner.HERE is again.HERE is code.inner.again() and other.HERE and line.Queue\n"
        "assert math.pi and collections.abc.Mapping and torch.nn is nn\n"
        "def late():\n    import random, statistics\n    return random.WIDTH + statistics.more()"
    )
    (place / "random.py").write_text("WIDTH = 3\nfrom time import sleep", encoding="utf-8")
    (place / "statistics.py").write_text("def more():\n    return 2", encoding="utf-8")
    (place / "code").mkdir()
    (place / "code" / "__init__.py").write_text("", encoding="utf-8")
    (place / "code" / "inner.py").write_text(
        "HERE = object()\ndef again():\n    from code.inner import HERE\n    from . import inner\n"
        "    return inner.HERE",
        encoding="utf-8",
    )
    (place / "code" / "other.py").write_text("from .inner import HERE", encoding="utf-8")
    write(place, "my_net", imports=beside)
    write(
        place, "code.deep.net", imports="from code.inner import HERE\nfrom ..other import HERE as H"
    )
    model = load_model("my_net:build")
    assert sys.modules[type(model).__module__].late() == 5
    assert load_model("code.deep.net:build").a.out_channels == 4
    import code
    import random

    assert code.interact
    assert random.random


def test_folders_do_not_see_each_others_modules(place, monkeypatch):
    for folder, width in (("one", 5), ("two", 6)):
        write(place / folder, "net", imports="from layers import WIDTH as width", width="width")
        write(
            place / folder,
            "other_net" if folder == "two" else "third",
            width="WIDTH",
            imports="from layers import WIDTH",
        )
        (place / folder / "layers.py").write_text(f"WIDTH = {width}", encoding="utf-8")
    for folder, name, width in (
        ("one", "net", 5),
        ("two", "other_net", 6),
        ("two", "net", 6),
        ("one", "third", 5),
        ("one", "net", 5),
    ):
        monkeypatch.chdir(place / folder)
        assert load_model(f"{name}:build").a.out_channels == width, (folder, name)
    # Where a command was typed comes before where it works.
    monkeypatch.setenv("TOPO_UTILS_CODE", str(place / "two"))
    assert load_model("net:build").a.out_channels == 6
    assert load_model("third:build").a.out_channels == 5


def test_a_module_that_was_imported_as_usual_is_the_same(place, monkeypatch):
    write(place, "my_usual")
    monkeypatch.syspath_prepend(place)
    mine = importlib.import_module("my_usual")
    assert type(load_model("my_usual:build")) is mine.Network
    write(place, "random")  # another of the folder that has a name like a library's
    assert type(load_model("my_usual:build")) is mine.Network


def test_a_folder_of_data_does_not_hide_a_library(place):
    (place / "torchvision").mkdir()
    (place / "torchvision" / "notes.py").write_text("", encoding="utf-8")
    assert load_model("torchvision.models:alexnet").features
    write(place, "nets.inner.net", width=3)  # folders without __init__.py
    assert load_model("nets.inner.net:build").a.out_channels == 3


ENDS = {
    "sys:exit": ("", "SystemExit: ; needed: module:callable.*nothing.* ends the program"),
    "quits:build": ("raise SystemExit(0)", "SystemExit: 0; needed: .*ends the program"),
    "asks:build": (
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('data')\n"
        "parser.parse_args()",
        "SystemExit: 2; needed: .*nothing reads the command line",
    ),
    "stops:build": ("raise GeneratorExit('enough')", "GeneratorExit: enough; needed"),
    "own:build": ("class Stop(BaseException): ...\nraise Stop('x\\ny')", "Stop: x; needed"),
    "fails:build": ("1 / 0", "ZeroDivisionError: division by zero; needed"),
    "wrong:build": ("def", "SyntaxError: .*; needed"),
    "lacks:build": ("import nonesuch_module", "No module named 'nonesuch_module'; needed"),
    "numpy:pi": ("", "TypeError: 'float' object is not callable; needed"),
    "builtins:dict": ("", "gives dict, not a torch.nn.Module; needed"),
    "my_net:Asks": ("class Asks(nn.Linear): ...", "TypeError: .*'in_features'.*; needed"),
    "my_net:nonesuch": ("pass", "has no attribute 'nonesuch'; needed"),
    "nonesuch_module:build": ("", "No module named 'nonesuch_module'; needed"),
    ":build": ("", "ValueError: Empty module name; needed"),
    "my_net:": ("pass", "AttributeError.*; needed"),
}


@pytest.mark.parametrize("name", ENDS)
def test_code_that_ends_the_program_is_refused(place, capsys, name):
    line, message = ENDS[name]
    if line:
        write(place, name.partition(":")[0], imports=line)
    with pytest.raises(ValueError, match=f"network '{name}'.*{message}") as caught:
        load_model(name)
    assert "\n" not in str(caught.value)
    assert "usage" not in capsys.readouterr().err  # of a program that is not this one


def test_what_code_says_is_passed_on(place, capsys):
    write(place, "says", imports="import sys\nprint('of old', file=sys.stderr)")
    load_model("says:build")
    assert capsys.readouterr().err == "of old\n"


def test_ctrl_c_stays_ctrl_c(place):
    write(place, "my_stop", imports="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_model("my_stop:build")


SETTINGS = """
import argparse, os, sys, warnings
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
assert parser.parse_args().seed == 0
os.chdir("/")
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_num_threads(torch.get_num_threads() + 1)
torch.set_grad_enabled(False)
warnings.filterwarnings("ignore")
sys.path.insert(0, "/nonesuch")
"""


@pytest.mark.parametrize("then", ["", "raise SystemExit(1)"])
def test_settings_that_code_changes_are_set_back(place, monkeypatch, then):
    monkeypatch.setattr(sys, "argv", ["topobook", "profile", "--seed", "5"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    write(place, "my_settings", imports=SETTINGS + then)

    def state():
        torch_state = (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.get_num_threads(),
        )
        filters = list(warnings.filters)
        return (*torch_state, torch.is_grad_enabled(), filters, os.getcwd(), list(sys.argv))

    before = state()
    if then:
        with pytest.raises(ValueError, match="SystemExit"):
            load_model("my_settings:build")
    else:
        assert load_model("my_settings:build").a.weight.dtype == torch.float64  # its own is its own
    assert state() == before


def test_threads_may_load_at_once(place):
    write(place, "random", imports="import os\nsum(range(10**6))\nos.chdir('/')")
    argv, folder = list(sys.argv), os.getcwd()
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(load_model, ["random:build"] * 8))
    assert len({type(model) for model in models}) == 1
    assert (sys.argv, os.getcwd()) == (argv, folder)


class Terminal:
    """Where nobody types."""

    def __getattr__(self, name):
        raise AssertionError(f"the terminal's {name} would wait for ever")


@pytest.mark.parametrize(
    ("name", "said", "todo"),
    [
        ("my_input:build", "network 'my_input:build': EOFError: EOF when reading a line", "Needed"),
        ("sys:exit", "network 'sys:exit': SystemExit: ", "Needed: module:callable"),
        ("my_end:Ending", "code that was called ended the program (exit code 0)", "Take what"),
    ],
)
def test_the_command_fails_in_two_lines_and_waits_for_no_input(
    place, monkeypatch, capsys, name, said, todo
):
    write(place, "my_input", imports="input('how wide? ')")
    with write(place, "my_end").open("a", encoding="utf-8") as file:
        file.write(
            "class Ending(Network):\n    def forward(self, images):\n        raise SystemExit(0)"
        )
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setenv("TOPO_UTILS_CODE", str(place))
    assert main(["profile", "--model", name, "--images", "digits", "--size", "16"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"topobook: {said}"
    assert told[1].startswith(todo)
    assert len(told) == 2
    assert isinstance(sys.stdin, Terminal)
