"""The problem sets through nbgrader, from the source to the gradebook, as a teacher does it.

For each set: the model solution, the untouched release and every wrong solution in
tests/submissions are handed in and graded in one batch. A wrong solution is the model solution
with some of its cells replaced; its first cell says what is wrong and which score it must get.
"""

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks" / "assignments"))
import build  # noqa: E402

from topo_utils.book import Project  # noqa: E402

SETS = list(build.SETS)
#: Seconds that a cell may take here, so that the endless loop of one submission ends earlier.
TIMEOUT = 40
WRONG = {path.stem: path for path in sorted((Path(__file__).parent / "submissions").glob("ps*.py"))}


def nbgrader(course, *arguments):
    """Run a command of nbgrader in a course folder; what it says."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def solution(name):
    """Source of every solution cell of a set's model solution, by grade_id."""
    cells = build.read(build.SETS[name]).cells
    return {
        cell.id: cell.source
        for cell in cells
        if cell.metadata.get("nbgrader", {}).get("solution", False)
    }


def hand_in(course, name, student, answers):
    """The release of a set with some of its solution cells filled in, as a student's submission."""
    notebook = nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    out = course / "submitted" / student / name / f"{name}.ipynb"
    out.parent.mkdir(parents=True)
    nbformat.write(notebook, out)


def wrong_answers(student):
    """The cells that a wrong solution replaces, by grade_id."""
    return {
        cell.metadata.replaces: cell.source
        for cell in build.read(WRONG[student]).cells
        if cell.cell_type == "code"
    }


@pytest.fixture(scope="module")
def courses(tmp_path_factory):
    """By name of the set a future of (course folder, nbgrader's log); two are graded at a time."""
    folder = tmp_path_factory.mktemp("courses")

    def grade(name):
        course = folder / name
        right = solution(name)
        hand_in(course, name, "model_solution", right)
        hand_in(course, name, "untouched", {})
        for student in WRONG:
            if student.startswith(name):
                hand_in(course, name, student, right | wrong_answers(student))
        log = nbgrader(course, "autograde", name, f"--Execute.timeout={TIMEOUT}")
        nbgrader(course, "export", "--to=grades.csv", f"--assignment=['{name}']")
        return course, log

    # nbgrader's converters change the working directory: not in threads.
    build.build(folder / "course")
    for name in SETS:
        shutil.copytree(folder / "course", folder / name)
    pool = ThreadPoolExecutor(max_workers=2)
    yield {name: pool.submit(grade, name) for name in SETS}
    pool.shutdown(cancel_futures=True)  # what no test has asked for


def graded(courses, name, student):
    """A submission after the grading: the cells by grade_id, and the score in the exported CSV."""
    course, _ = courses[name].result()
    path = course / "autograded" / student / name / f"{name}.ipynb"
    cells = {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}
    with (course / "grades.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["student_id"] == student]
    return cells, float(row["score"])


def points(name, *, by_hand=False):
    """What can be reached in a set by the tests, or in what is marked by hand."""
    cells = [cell.metadata.get("nbgrader", {}) for cell in build.read(build.SETS[name]).cells]
    return sum(
        cell["points"] for cell in cells if cell.get("grade") and cell["solution"] == by_hand
    )


def errors(cell):
    """The errors among a cell's outputs, without the colours."""
    return [
        (output.ename, re.sub(r"\x1b\[[\d;]*m", "", output.evalue))
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_model_solution_earns_full_marks(courses, name):
    cells, score = graded(courses, name, "model_solution")
    assert {grade_id: found for grade_id, cell in cells.items() if (found := errors(cell))} == {}
    assert score == points(name)
    assert points(name, by_hand=True) > 0
    outputs = [output for cell in cells.values() for output in cell.get("outputs", [])]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_untouched_release_earns_nothing_and_says_what_to_do(courses, name):
    cells, score = graded(courses, name, "untouched")
    assert score == 0
    course, _ = courses[name].result()
    release = nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)
    for cell in release.cells:  # it was run as it is, but for the hidden tests
        if cell.cell_type == "code":
            cell.outputs = cells[cell.id].outputs
            if cell.metadata.get("nbgrader", {}).get("grade"):
                (error,) = errors(cell)
                assert error[0] == "NotImplementedError"
                assert error[1].startswith("This task is not done yet")
    build.check(release, release=True)


@pytest.mark.slow
@pytest.mark.parametrize("student", WRONG)
def test_a_wrong_solution_earns_its_score(courses, student):
    cells, score = graded(courses, student[:3], student)
    about = build.read(WRONG[student]).cells[0].source
    assert score == float(re.search(r"^expected score: ([\d.]+)$", about, re.MULTILINE)[1])
    assert score < points(student[:3])
    assert wrong_answers(student).keys() <= solution(student[:3]).keys()
    for cell in cells.values():
        for kind, message in errors(cell):
            # Whatever a student did, the message says what was expected.
            assert kind != "AssertionError" or len(message) > 30, (cell.id, message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "reason"),
    [
        ("ps1_endless_loop", f"a cell ran for more than {TIMEOUT} s"),
        ("ps1_kernel_stopped", "the kernel stopped, in cell ps1-cells-test-small"),
    ],
)
def test_what_does_not_run_to_its_end_is_reported(courses, student, reason):
    cells, score = graded(courses, "ps1", student)
    course, log = courses["ps1"].result()
    assert score == 0
    (line,) = [line for line in log.splitlines() if f"ps1 of {student}:" in line]
    assert reason in line
    assert "ERROR" in line
    nbgrader(course, "generate_feedback", "ps1", "--student", student)
    html = (course / "feedback" / student / "ps1" / "ps1.html").read_text(encoding="utf-8")
    assert reason in html
    assert len([1 for cell in cells.values() if errors(cell)]) >= 10


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_three_wrong_solutions(name):
    assert len([student for student in WRONG if student.startswith(name)]) >= 3


def test_grade_ids_are_unique_and_marked():
    seen = set()
    for name, path in build.SETS.items():
        for cell in build.read(path).cells:
            about = cell.metadata.get("nbgrader")
            if about is None:
                continue
            assert about["grade_id"].startswith(f"{name}-")
            assert about["grade_id"] not in seen
            seen.add(about["grade_id"])
            for kind, region in (("solution", "SOLUTION"), ("hidden", "HIDDEN TESTS")):
                regions = cell.source.count(f"### BEGIN {region}\n")
                marked = cell.source.count(f"# {kind}-marker-{name}-")
                assert marked == regions or (cell.cell_type == "markdown" and about["solution"])
            if about["solution"]:
                assert f"solution-marker-{about['grade_id']}" in cell.source


def test_the_teachers_page_has_the_points():
    page = (ROOT / "notebooks" / "teaching.md").read_text(encoding="utf-8")
    for name in SETS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}_")]
        told = [int(cell) for cell in row.strip("| ").split("|")[-2:]]
        assert told == [points(name), points(name, by_hand=True)], name


def test_no_test_stops_without_a_message():
    for path in build.SETS.values():
        for cell in build.read(path).cells:
            if cell.cell_type == "code":
                for statement in ast.walk(ast.parse(cell.source)):
                    assert not isinstance(statement, ast.Assert) or statement.msg, cell.id


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_no_solution_is_in_the_release(courses, name):
    course, _ = courses[name].result()
    files = [path for path in (course / "release").rglob("*") if path.is_file()]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "-marker-" not in text
        assert "### BEGIN" not in text


def test_no_solution_is_in_the_book():
    project = Project(ROOT)
    pages = [project.notebooks / f"{page}.md" for page in project.pages()]
    sources = [page for page in pages if page.is_file()]
    sources += [project.source(chapter) for chapter in project.chapters()]
    for source in sources:
        assert "-marker-ps" not in source.read_text(encoding="utf-8"), source


def error(name):
    return nbformat.v4.new_output("error", ename=name, evalue="why", traceback=[])


@pytest.mark.parametrize(
    ("source", "raised", "release", "message"),
    [
        ("task()", "NotImplementedError", True, None),
        ("task()", "NotImplementedError", False, "cell c: NotImplementedError: why"),
        ("plot(result)", "NameError", True, None),
        ("1 / 0", "ZeroDivisionError", True, "cell c: ZeroDivisionError: why"),
        ("# solution-marker-ps1-cells", None, True, "cell c still has a solution"),
        ("### BEGIN HIDDEN TESTS", None, True, "cell c still has a solution"),
        ("### BEGIN HIDDEN TESTS", None, False, None),
    ],
)
def test_what_a_version_may_contain(source, raised, release, message):
    outputs = [error(raised)] if raised else []
    cell = nbformat.v4.new_code_cell(source, id="c", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    if message is None:
        build.check(notebook, release=release)
    else:
        with pytest.raises(build.SetError, match=message):
            build.check(notebook, release=release)


def small_set(expected=1):
    """The source of a set of three tasks, one of them marked by hand; `one` has to return 1."""

    def cell(source, kind="", **about):
        about = dict.fromkeys(("task", "locked", "grade", "solution"), False) | about
        return f"# %%{kind} nbgrader={json.dumps(about | {'schema_version': 3})}\n{source}\n"

    text = " [markdown]"
    header = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
"""
    cells = [
        cell("# # A small set", text, grade_id="ps9-intro", locked=True),
        cell("from math import sqrt\n\nbase = 10", grade_id="ps9-setup", locked=True),
        cell("# ## Task 1\n#\n# Return one.", text, grade_id="ps9-one-text", locked=True),
        cell(
            "def one():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION",
            grade_id="ps9-one",
            solution=True,
        ),
        cell(
            f'assert one() == {expected}, "another number was expected"',
            grade_id="ps9-one-test",
            locked=True,
            grade=True,
            points=1,
        ),
        cell("# ## Task 2\n#\n# Ten more.", text, grade_id="ps9-more-text", locked=True),
        cell(
            "def more(x):\n    ### BEGIN SOLUTION\n    return x + base\n    ### END SOLUTION",
            grade_id="ps9-more",
            solution=True,
        ),
        cell(
            'assert more(1) == 11, "ten more than 1 is 11"\n### BEGIN HIDDEN TESTS\n'
            'assert more(-1) == 9, "ten more than -1 is 9"\n### END HIDDEN TESTS',
            grade_id="ps9-more-test",
            locked=True,
            grade=True,
            points=2,
        ),
        cell("# ## Task 3\n#\n# Say why.", text, grade_id="ps9-why-text", locked=True),
        cell("# Because.", text, grade_id="ps9-why", grade=True, solution=True, points=3),
    ]
    return "\n".join([header, *cells])


def test_the_build_checks_both_versions(tmp_path, monkeypatch, capsys):
    source = tmp_path / "ps9_small.py"
    monkeypatch.setattr(build, "SETS", {"ps9": source})
    source.write_text(small_set())
    build.main(tmp_path / "course")
    said = capsys.readouterr().out
    assert re.search(r"ps9, source: 6 points, runs in \d+ s\nps9, release: 6 points", said)
    source.write_text(small_set(expected=2))
    with pytest.raises(build.SetError, match="ps9, source: cell ps9-one-test: AssertionError"):
        build.main(tmp_path / "course")
    source.write_text(small_set().replace("### END SOLUTION", ""))
    with pytest.raises(build.SetError, match=r"(?is)ps9: nbgrader could not .* no end solution"):
        build.main(tmp_path / "course")
