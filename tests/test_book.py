"""The runner on a small book: what it makes, what it keeps, and what it refuses."""

import json
import subprocess
import sys

import nbformat
import pytest

from topo_utils.__main__ import main
from topo_utils.book import BookError, Parameter, Project, record_finding

HEADER = """\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A small chapter

# %% tags=["parameters"]
from typing import Literal

# A number to halve.
number: float = 3.0
# Words, or none.
# On two lines.
words: str | None = None
mode: Literal["loud", "quiet"] = "quiet"
levels: list[float] = [0.0, 0.5]

"""

CHAPTER = (
    HEADER
    + """\
# %%
from topo_utils.book import glue, record_finding

half = number / 2
assert half < 100, "too large"
glue(half=half)

# %% [markdown]
# Half of it is {glue:text}`half:.2f`.

# %%
verdict = "reproduced" if half < 2 else "not reproduced"
interval = (half, half - 1, half + 1)
numbers = {"half": interval, "a_double": 2 * number}
record_finding("Halves are small", verdict, f"half is {half}.", numbers)
"""
)


@pytest.fixture
def project(tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: small\n", encoding="utf-8"
    )
    (tmp_path / "_config.yml").write_text(
        "title: Small\nonly_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n"
        "sphinx: {config: {nb_render_markdown_format: myst}}\n",
        encoding="utf-8",
    )
    (notebooks / "intro.md").write_text("# Intro\n\n```{include} _findings.md\n```\n")
    (notebooks / "small.py").write_text(CHAPTER)
    (notebooks / "presets.yml").write_text("default: {}\nlarge:\n  small: {number: 30.0}\n")
    return Project(tmp_path)


def results(project):
    return json.loads((project.build / "results.json").read_text())


def test_a_book_is_built_and_rebuilt(project, capsys):
    index = project.build_book()
    assert index == project.build / "html" / "index.html"
    assert index.is_file()
    page = (project.build / "html" / "small.html").read_text()
    assert "1.50" in page  # glued
    assert "Verdict: reproduced" in page
    assert "half: 1.5 [0.5, 2.5]" in (project.build / "html" / "intro.html").read_text()
    assert results(project) == {
        "small": {
            "claim": "Halves are small",
            "verdict": "reproduced",
            "reason": "half is 1.5.",
            "numbers": {
                "half": {"value": 1.5, "low": 0.5, "high": 2.5},
                "a_double": {"value": 6.0},
            },
            "headline": "half",
        }
    }
    executed = project.build / "executed" / "small.ipynb"
    assert nbformat.read(executed, 4).metadata.papermill.input_path == "notebooks/small.py"
    assert str(project.root) not in executed.read_text()
    assert not list(project.notebooks.rglob("*.ipynb"))

    # Nothing changed: nothing is executed, and the page is the same.
    before = executed.stat().st_mtime_ns
    capsys.readouterr()
    project.build_book()
    assert "small: unchanged" in capsys.readouterr().out
    assert executed.stat().st_mtime_ns == before
    assert "half: 1.5 [0.5, 2.5]" in (project.build / "html" / "intro.html").read_text()

    # Other parameters: executed again, and everything follows.
    project.build_book("large")
    assert results(project)["small"]["verdict"] == "not reproduced"
    assert "15.00" in (project.build / "html" / "small.html").read_text()

    # A chapter that fails: named, kept for inspection, and the last good book stays.
    good = (project.build / "html" / "small.html").read_text()
    (project.notebooks / "small.py").write_text(CHAPTER.replace("< 100", "< 1"))
    with pytest.raises(BookError) as caught:
        project.build_book()
    message = str(caught.value)
    assert "chapter small failed in cell [2]" in message
    assert "AssertionError: too large" in message
    failed = project.build / "failed" / "small.ipynb"
    assert str(failed) in message
    outputs = [o for c in nbformat.read(failed, 4).cells for o in c.get("outputs", [])]
    assert any(o.get("ename") == "AssertionError" for o in outputs)
    assert (project.build / "html" / "small.html").read_text() == good
    assert results(project)["small"]["verdict"] == "not reproduced"

    # So does it when a page has a warning.
    (project.notebooks / "small.py").write_text(CHAPTER)
    (project.notebooks / "intro.md").write_text("# Intro\n\n{doc}`nowhere`\n")
    with pytest.raises(BookError, match=r"could not render the pages(.|\n)*nowhere"):
        project.build_book()
    assert (project.build / "html" / "small.html").read_text() == good

    # And the next build mends it.
    (project.notebooks / "intro.md").write_text("# Intro\n")
    project.build_book()
    assert results(project)["small"]["verdict"] == "reproduced"
    assert not (project.build / "failed").exists()


def test_a_chapter_runs_from_the_command_line(project, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(project.root)
    assert main(["run", "small", "-p", "number", "10", "-p", "words", "a b"]) == 0
    out = capsys.readouterr().out
    assert "not reproduced: half is 5.0." in out
    assert "half: 5 [4, 6]" in out
    notebook = nbformat.read(project.build / "runs" / "small.ipynb", 4)
    assert notebook.metadata.papermill.parameters == {"number": 10, "words": "a b"}

    assert main(["run", "small", "--preset", "large", "-o", str(tmp_path / "mine.ipynb")]) == 0
    assert (tmp_path / "mine.ipynb").is_file()
    assert main(["run", "small", "-o", str(tmp_path / "folder")]) == 0
    assert (tmp_path / "folder" / "small.ipynb").is_file()

    # One that fails keeps its notebook where it was wanted.
    assert main(["run", "small", "-p", "number", "999", "-o", str(tmp_path / "bad.ipynb")]) == 1
    assert f"too large\nThe executed notebook is kept in {tmp_path}" in capsys.readouterr().err
    assert "AssertionError" in (tmp_path / "bad.ipynb").read_text()


def test_list_shows_what_the_chapters_declare(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "small: A small chapter" in out
    assert "number: float = 3.0\n      A number to halve." in out
    assert "words: str | None = None\n      Words, or none. On two lines." in out
    assert "mode: Literal['loud', 'quiet'] = 'quiet'" in out
    assert "presets: default, large" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "other"], "no chapter 'other'; chapters: small"),
        (["run", "small", "--preset", "x"], "no preset 'x'; presets: default, large"),
        (
            ["run", "small", "-p", "size", "3"],
            "chapter small has no parameter 'size'; it has: number",
        ),
        (
            ["run", "small", "-p", "number", "x"],
            "parameter number is 'x'; accepted: float (A number",
        ),
        (["run", "small", "-p", "number", "None"], "parameter number is None; accepted: float"),
        (
            ["run", "small", "-p", "mode", "shy"],
            "parameter mode is 'shy'; accepted: Literal['loud'",
        ),
        (["run", "small", "-p", "levels", "0.5"], "parameter levels is 0.5; accepted: list[float]"),
        (["run", "small", "-p", "levels", "[x"], "parameter levels is '[x'; accepted: list[float]"),
        (["run", "small", "-o", "x.html"], "-o x.html: accepted: a notebook (.ipynb) or a folder"),
        (["book", "--preset", "x"], "no preset 'x'"),
    ],
)
def test_wrong_usage_stops_before_anything_runs(project, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(project.root)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not project.build.exists()


def test_unknown_words_on_the_command_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_presets_are_checked_against_the_chapters(project):
    presets = project.notebooks / "presets.yml"
    presets.write_text("default: {}\nodd:\n  small: {size: 3}\n")
    with pytest.raises(BookError, match="preset odd: chapter small has no parameter 'size'"):
        project.resolve("small")
    presets.write_text("default: {}\nodd:\n  other: {size: 3}\n")
    with pytest.raises(BookError, match="no chapter 'other'"):
        project.resolve("small")
    presets.write_text("default: {}\nodd:\n  small: {number: many}\n")
    with pytest.raises(BookError, match="parameter number is 'many'"):
        project.resolve("small")
    presets.write_text("default: [")
    with pytest.raises(BookError, match=r"presets.yml cannot be read"):
        project.resolve("small")


def test_a_chapter_needs_one_parameters_cell(project):
    (project.notebooks / "small.py").write_text(CHAPTER.replace(' tags=["parameters"]', ""))
    with pytest.raises(BookError, match="chapter small has 0 cells tagged parameters; needed: 1"):
        project.parameters("small")


def test_without_a_book_there_is_nothing_to_run(tmp_path):
    with pytest.raises(BookError, match=r"no book in .*: needed are notebooks/ and _toc.yml"):
        Project(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("float", "1e-3", 1e-3),
        ("float", "2", 2.0),
        ("int | None", "None", None),
        ("bool", "true", True),
        ("str", "3", "3"),
        ("str | None", "3x", "3x"),
        ("list[str]", "['a', 'b']", ["a", "b"]),
        ("list[float]", "[0, -0.5]", [0.0, -0.5]),
    ],
)
def test_values_are_read_as_declared(annotation, text, value):
    assert Parameter("p", annotation, None, "").parse(text) == value


@pytest.mark.parametrize(("annotation", "text"), [("int", "1.5"), ("int", "true"), ("bool", "1")])
def test_values_of_another_type_are_refused(annotation, text):
    with pytest.raises(BookError, match="parameter p is"):
        Parameter("p", annotation, None, "").parse(text)


def test_a_finding_is_checked():
    with pytest.raises(ValueError, match="unknown verdict 'fine'; accepted: reproduced, "):
        record_finding("c", "fine", "r", {"n": 1.0})
    with pytest.raises(ValueError, match="needs at least one number"):
        record_finding("c", "reproduced", "r", {})
    for number in (float("nan"), (1.0, float("inf"), 2.0), (1.0, 2.0)):
        with pytest.raises(ValueError, match=r"number 'n' is .*; accepted: a finite number"):
            record_finding("c", "reproduced", "r", {"n": number})


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "topo_utils", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: topobook" in done.stdout
