"""The built book, and shapes and networks that several tests use."""

import ast
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from topo_utils.book import Project

# Under pytest-xdist the workers share the cores. Two threads of each on two cores would wait for
# one another, in the workers themselves and in what they start.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if WORKERS > 1:
    THREADS = max(1, (os.cpu_count() or 1) // WORKERS)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    torch.set_num_threads(THREADS)

#: The files whose tests share the built book.
BOOK = ("test_lab.py", "test_notebooks.py", "test_pdf.py", "test_site.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests that share what takes long to set up go to one worker, runs of chapters to any."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            if test.startswith("test_chapters_run_with_other_parameters"):
                return nodeid
            return "book" if Path(file).name in BOOK else file

    return Scheduling(config, log)


def functions_of(chapter, *names, **known):
    """Functions of these names that a chapter defines, with its imports, without running it.

    Without names all of them, as attributes; `known` are other names that they use.
    """
    file = Path(__file__).parents[1] / "notebooks" / f"{chapter}.py"
    imports, defined = [], []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.FunctionDef) and (node.name in names or not names):
            defined.append(node)
    assert {node.name for node in defined} >= set(names)
    exec(compile(ast.Module(imports + defined, []), chapter, "exec"), known)
    return [known[name] for name in names] or SimpleNamespace(**known)


def wait_until(condition, seconds=120):
    """Whether a condition comes true, on a slow computer as well."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def git(folder, *arguments):
    """What git answers in a folder."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def git_status(folder):
    """What git finds changed and new; None where there is no repository, or no git."""
    try:
        return git(folder, "status", "--porcelain", "--untracked-files=all")
    except (OSError, subprocess.CalledProcessError):
        return None


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tests compute is kept apart from what the user has computed."""
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        # One for all workers, each of which has a folder in that of the session.
        patch.setenv("TOPO_UTILS_CACHE", str((folder.parent if WORKERS > 1 else folder) / "cache"))
        yield


@pytest.fixture(scope="session")
def built(own_cache, tmp_path_factory):
    """The whole book with the smoke preset, built once for all tests."""
    project = Project(Path(__file__).parents[1], build=tmp_path_factory.mktemp("build"))
    before = git_status(project.root)
    project.build_book("smoke")
    project.git_status = before, git_status(project.root)
    return project


@pytest.fixture
def small_network():
    """Convolutions, batch norm, an in-place ReLU and a linear layer; input (N, 3, H, W)."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    with torch.no_grad():
        network[1].running_mean.uniform_(-0.2, 0.2)
        network[1].running_var.uniform_(0.5, 1.5)
    return network


def block(shape, *boxes):
    """A boolean volume in which the given boxes (tuples of slices) are set."""
    volume = np.zeros(shape, dtype=bool)
    for box in boxes:
        volume[box] = True
    return volume


def ring(shape, axis, fixed, rows, columns):
    """A closed square loop of points, one thick, at position `fixed` of an axis."""
    volume = np.zeros(shape, dtype=bool)
    plane = np.moveaxis(volume, axis, 0)[fixed]
    (top, bottom), (left, right) = rows, columns
    plane[top : bottom + 1, [left, right]] = True
    plane[[top, bottom], left : right + 1] = True
    return volume


def shells(count):
    """Nested hollow boxes, none touching the next."""
    size = 4 * count - 1
    volume = np.zeros((size,) * 3, dtype=bool)
    for k in range(count):
        outer = slice(2 * k, size - 2 * k)
        inner = slice(2 * k + 1, size - 2 * k - 1)
        volume[outer, outer, outer] = True
        volume[inner, inner, inner] = False
    return volume


def menger(level):
    """A Menger sponge of 3**level points a side."""
    points = np.indices((3**level,) * 3)
    kept = np.ones((3**level,) * 3, dtype=bool)
    for power in range(level):
        middle = (points // 3**power) % 3 == 1
        kept &= middle.sum(axis=0) < 2
    return kept


def hollow_torus():
    """The surface of a square torus, one thick."""
    volume = np.ones((3, 9, 9), dtype=bool)
    volume[:, 3:6, 3:6] = False  # the hole through it
    volume[1, 1, 1:8] = volume[1, 7, 1:8] = False  # the tube inside it
    volume[1, 1:8, 1] = volume[1, 1:8, 7] = False
    return volume


SHAPES = {
    "point": (np.ones((1, 1, 1), dtype=bool), (1, 0, 0)),
    "ball": (np.ones((4, 5, 6), dtype=bool), (1, 0, 0)),
    "nothing": (np.zeros((4, 5, 6), dtype=bool), (0, 0, 0)),
    "two points across an edge": (block((1, 2, 2), (0, 0, 0), (0, 1, 1)), (2, 0, 0)),
    "square loop": (ring((1, 5, 5), 0, 0, (0, 4), (0, 4)), (1, 1, 0)),
    "solid torus": (
        block((2, 7, 7), np.s_[:, 0:7, 0:7]) & ~block((2, 7, 7), np.s_[:, 3, 3]),
        (1, 1, 0),
    ),
    "linked rings": (
        ring((7, 7, 9), 0, 3, (1, 5), (0, 4)) | ring((7, 7, 9), 1, 3, (1, 5), (2, 7)),
        (2, 2, 0),
    ),
    "hollow box": (shells(1), (1, 0, 1)),
    "nested hollow boxes": (shells(3), (3, 0, 3)),
    "hollow torus": (hollow_torus(), (1, 2, 1)),
    "Menger sponge, level 1": (menger(1), (1, 5, 0)),
    "Menger sponge, level 2": (menger(2), (1, 81, 0)),
}
