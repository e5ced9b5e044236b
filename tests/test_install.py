"""What is installed: the versions that are pinned, and a wheel that holds all that is needed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from topo_utils.candidates import candidate_table

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("constraints", ROOT / ".ci" / "constraints.py")
constraints = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(constraints)


def direct_dependencies():
    """All requirements of topo_utils[all], with those of the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {**project["optional-dependencies"], "": project["dependencies"]}

    def walk(name):
        for requirement in map(Requirement, extras[name]):
            if requirement.name == "topo_utils":
                for extra in requirement.extras:
                    yield from walk(extra)
            else:
                yield requirement

    return [*walk(""), *walk("all")]


def test_each_dependency_is_pinned_within_its_range():
    pins = constraints.read()
    for requirement in direct_dependencies():
        name = constraints.normal(requirement.name)
        if name in ("torch", "torchvision"):  # left to the platform
            assert name not in pins
        else:
            assert pins[name] in requirement.specifier, requirement


def test_pins_are_sorted_and_of_no_one_machine():
    pins = constraints.read()
    assert list(pins) == sorted(pins)
    for name, pinned in pins.items():
        assert name == constraints.normal(name)
        assert not constraints.PLATFORM.fullmatch(name)
        assert re.fullmatch(r"[\w.!]+", pinned), name  # no +local part
    text = constraints.FILE.read_text("utf-8")
    assert text.startswith(constraints.HEADER)
    assert text.count("\n") == constraints.HEADER.count("\n") + len(pins)


def test_pins_are_written_from_what_pip_would_install(tmp_path, monkeypatch):
    found = {"Foo_Bar": "1.2+cu13", "abc": "3", "torch": "2", "nvidia-x": "1", "topo_utils": "0"}
    report = {"install": [{"metadata": {"name": n, "version": v}} for n, v in found.items()]}
    assert constraints.constraints(report) == constraints.HEADER + "abc==3\nfoo-bar==1.2\n"


def test_what_is_installed_in_another_version_is_shown(tmp_path, monkeypatch, capsys):
    file = tmp_path / "constraints.txt"
    file.write_text("# of a test\nno-such-package==1\npip==0.1\n")
    monkeypatch.setattr(constraints, "FILE", file)
    constraints.newer()
    assert re.fullmatch(r"pip 0.1 -> [\d.]+\n", capsys.readouterr().out)


@pytest.fixture
def make(tmp_path):
    """Call make in a copy of the files that say what to install; what it would run."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*arguments, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "CONSTRAINTS"))}
        return subprocess.run(
            ["make", "--dry-run", "install", *arguments],
            cwd=tmp_path,
            env=clean | environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


def test_make_install_takes_the_pinned_versions_unless_told_otherwise(make):
    assert '-c constraints.txt -e ".[all]"' in make()
    for newest in (make("CONSTRAINTS="), make(CONSTRAINTS="")):
        assert "-c constraints.txt" not in newest
        assert '--upgrade-strategy eager -e ".[all]"' in newest


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_make_installs_again_after_a_change(make, tmp_path, changed):
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(tmp_path / name, (1, 1))
    assert "pip" not in make()
    assert "pip" in make("CONSTRAINTS=")  # these are not the newest
    os.utime(tmp_path / changed)
    os.utime(stamp, (2, 2))
    assert "pip" in make()


def test_all_ways_to_install_take_the_pinned_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["dependencies"][-1] == {"pip": ["-c constraints.txt", "-e .[all]"]}
    binder = (ROOT / ".binder" / "postBuild").read_text("utf-8")
    windows = re.search(
        r"Scripts\\python -m pip install.*", (ROOT / "README.md").read_text("utf-8")
    )
    assert "-c constraints.txt" in binder
    assert "-c constraints.txt" in windows[0]


def test_once_a_week_the_newest_versions_are_tried():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text("utf-8"))
    assert workflow[True]["schedule"]  # YAML reads `on` as a truth value
    assert workflow["env"]["CONSTRAINTS"] == (
        "${{ github.event_name != 'schedule' && 'constraints.txt' || '' }}"
    )
    for job in ("test", "build"):
        steps = workflow["jobs"][job]["steps"]
        (broken,) = [step for step in steps if "what broke" in step.get("name", "")]
        assert broken["if"] == "failure() && github.event_name == 'schedule'"
        assert "constraints.py newer" in broken["run"]


USES_THE_WHEEL = """
import sys
from pathlib import Path
import numpy as np
import topo_utils
import topo_utils.weights.pretrain
from topo_utils import betti_numbers, load_model, published_table

assert Path(topo_utils.__file__).is_relative_to(sys.argv[1]), topo_utils.__file__
hollow = np.pad(np.zeros((3, 3, 3)), 1, constant_values=2)
hollow[2, 2, 2] = 1
print(betti_numbers(hollow, [0, 1]).tolist())
table = published_table("suresh2023_cifar10_accuracy")
print(load_model("fashion_plain_5").weights_name, list(table))
"""


@pytest.mark.slow
def test_a_wheel_that_is_installed_elsewhere_is_complete(tmp_path):
    clone, there = tmp_path / "clone", tmp_path / "there"
    shutil.copytree(
        ROOT / "topo_utils", clone / "topo_utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    files = {f.relative_to(clone).as_posix() for f in (clone / "topo_utils").rglob("*.*")}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", tmp_path, clone], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("topo_utils/")}
    assert held == files
    subprocess.run([*pip, "install", *offline, "--target", there, wheel], check=True)
    command = [sys.executable, "-c", USES_THE_WHEEL, there]
    environment = os.environ | {"PYTHONPATH": str(there)}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    known = candidate_table()["fashion_plain_5"]["sha256"][:12]
    assert ran.stdout == (
        "[[1, 0, 1], [1, 0, 0]]\n"
        f"Fashion-MNIST (SHA-256 {known}) ['model', 'finetuned_accuracy_percent']\n"
    )
    assert ran.stderr == ""
    assert list((there / "topo_utils" / "cubical" / "__pycache__").glob("*.nbc"))
