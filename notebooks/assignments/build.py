"""Turn the problem sets into a course folder for nbgrader, and check that they run.

    python notebooks/assignments/build.py [COURSE]

In COURSE, by default _build/assignments, it writes

    source/psN/psN.ipynb     with solutions and hidden tests: for the teacher
    release/psN/psN.ipynb    without them: for the students
    nbgrader_config.py       how nbgrader makes and grades them, with mending.py
    gradebook.db             nbgrader's; submissions and grades that are there stay
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import capture_log, is_grade
from traitlets.config import PyFileConfigLoader

from topo_utils.book.run import own_kernel

HERE = Path(__file__).resolve().parent
#: Source by name of the assignment: ps1 is written in ps1_cubical_homology.py.
SETS = {path.stem.partition("_")[0]: path for path in sorted(HERE.glob("ps*.py"))}
#: The kernel's one warning, that it talks unencrypted to this very process, is none.
QUIET = ["--IPKernelApp.log_level=ERROR"]


class SetError(Exception):
    """What is wrong with a problem set."""


def read(path):
    """A py:percent file as a notebook whose cells have lasting ids."""
    notebook = jupytext.read(path)
    notebook.metadata.pop("jupytext")  # the release is no pair of a text file
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell["id"] = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{i}")
    return notebook


def build(course, names=None):
    """Write source and release of problem sets, by default all, into a course folder."""
    course = Path(course).resolve()
    course.mkdir(parents=True, exist_ok=True)
    for file in ("nbgrader_config.py", "mending.py"):
        shutil.copy(HERE / file, course)
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    config.GenerateAssignment.force = True
    for name in SETS if names is None else names:
        source = course / "source" / name / f"{name}.ipynb"
        source.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(read(SETS[name]), source)
        config.CourseDirectory.assignment_id = name
        made = capture_log(
            GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
        )
        if not made["success"]:
            why = made.get("log") or made["error"]
            raise SetError(f"{name}: nbgrader could not make the release\n{why}")


def execute(path):
    """The notebook, executed to its end whatever its cells raise; and the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        NotebookClient(
            notebook,
            allow_errors=True,
            timeout=300,
            resources={"metadata": {"path": str(Path(path).parent)}},
            kernel_manager_class=own_kernel(scratch),
            shutdown_kernel="immediate",
            extra_arguments=QUIET,
        ).execute()
    return notebook, time.perf_counter() - start


def check(notebook, *, release):
    """Raise a `SetError` unless an executed notebook is as it should be.

    The teacher's version has no error. In the students' version a cell fails only because a task
    is not done yet, and of solutions and hidden tests there is no trace.
    """
    for cell in notebook.cells:
        if release and any(word in cell.source for word in ("-marker-", "### BEGIN", "### END")):
            raise SetError(f"cell {cell.id} still has a solution or a hidden test")
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not (
                release
                and (
                    output.ename == "NotImplementedError"
                    # What a task would have made, and a figure after it uses.
                    or (output.ename == "NameError" and not is_grade(cell))
                )
            ):
                raise SetError(f"cell {cell.id}: {output.ename}: {output.evalue}")


def main(course=None):
    course = Path(course or HERE.parents[1] / "_build" / "assignments").resolve()
    build(course)
    for name in SETS:
        for version in ("source", "release"):
            notebook, seconds = execute(course / version / name / f"{name}.ipynb")
            try:
                check(notebook, release=version == "release")
            except SetError as error:
                raise SetError(f"{name}, {version}: {error}") from None
            cells = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
            points = sum(cell.get("points", 0) for cell in cells)
            print(f"{name}, {version}: {points} points, runs in {seconds:.0f} s", flush=True)
    print(f"The course folder is {course}: copy it to a place of its own before you grade there")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SetError as error:
        sys.exit(f"build.py: {error}")
