"""The runner on a small book: what it makes, what it keeps, and what it refuses."""

import ast
import html
import importlib.metadata
import json
import math
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topo_utils
from topo_utils.__main__ import main
from topo_utils.book import (
    BookError,
    Parameter,
    Project,
    compare_runs,
    record_finding,
)
from topo_utils.book.chapters import as_json
from topo_utils.book.findings import duration, finding, prose, used_parameters
from topo_utils.book.pages import sync, typed
from topo_utils.book.run import _environment, key
from topo_utils.store import source_digest

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
from IPython.display import Markdown
from topo_utils.book import record_finding

half = number / 2
assert half < 100, "too large"
Markdown(f"Half of it is {half:.2f}.")

# %%
verdict = "reproduced" if half < 2 else "not reproduced"
interval = (half, half - 1, half + 1)
numbers = {"half": interval, "a_double": 2 * number}
record_finding("Halves are small", verdict, f"half is {half}.", numbers)
"""
)


def make_project(root):
    notebooks = root / "notebooks"
    notebooks.mkdir()
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: small\n", encoding="utf-8"
    )
    (root / "_config.yml").write_text(
        "title: Small\nonly_build_toc_files: true\nexclude_patterns: ['_*.md']\n"
        "execute: {execute_notebooks: 'off'}\n"
        "sphinx: {config: {nb_render_markdown_format: myst}}\n",
        encoding="utf-8",
    )
    (notebooks / "intro.md").write_text("# Intro\n\n```{include} _findings.md\n```\n")
    (notebooks / "small.py").write_text(CHAPTER)
    (notebooks / "presets.yml").write_text("default: {}\nlarge:\n  small: {number: 30.0}\n")
    return Project(root)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


def words(page):
    """The text of an HTML page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def results(project):
    return json.loads((project.build / "results.json").read_text())


def test_a_book_is_built_and_rebuilt(project, monkeypatch, capsys):
    monkeypatch.setenv("TOPOBOOK_REPOSITORY", "https://github.com/some-one/topo")
    index = project.build_book()
    assert index == project.build / "html" / "index.html"
    assert index.is_file()
    page = (project.build / "html" / "small.html").read_text()
    assert "Half of it is 1.50." in page
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
    # How to run it again, with what it accepts and what it had; the source comes with the page.
    text = words(page)
    assert "topobook run small" in text
    assert "mode (one of 'loud', 'quiet'; default 'quiet')" in text
    assert "number (float; default 3.0): A number to halve." in text
    assert list((project.build / "html" / "_downloads").rglob("small.py"))
    # And where it can be run without a clone.
    place = "published/notebooks/small.ipynb"
    assert f"https://colab.research.google.com/github/some-one/topo/blob/{place}" in page
    binder = "https://mybinder.org/v2/gh/some-one/topo/published?urlpath=lab/tree/notebooks/small"
    assert binder in page
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
    page = (project.build / "html" / "small.html").read_text()
    assert "15.00" in page
    assert "-p number 30.0" in words(page)
    assert "default 3.0, here 30.0" in words(page)

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


def test_what_was_imported_makes_no_other_environment(tmp_path, monkeypatch):
    before = _environment.__wrapped__()
    assert any(said.startswith("numpy==") for said in before)
    copies = tmp_path / "_vendor" / "vendored-1.0.dist-info"
    copies.mkdir(parents=True)
    (copies / "METADATA").write_text("Metadata-Version: 2.1\nName: vendored\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(copies.parent))
    assert "vendored" in {d.name for d in importlib.metadata.distributions()}
    assert _environment.__wrapped__() == before


def test_a_chapter_runs_from_the_command_line(project, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(project.root)
    assert main(["run", "small", "-p", "number", "10", "-p", "words", "a b"]) == 0
    out = capsys.readouterr().out
    assert "not reproduced: half is 5.0." in out
    assert "half: 5 [4, 6]" in out
    notebook = nbformat.read(project.build / "runs" / "small.ipynb", 4)
    assert notebook.metadata.papermill.parameters == {"number": 10, "words": "a b"}

    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["run", "small", "--preset", "large", "-o=~/folder"]) == 0
    assert (tmp_path / "folder" / "small.ipynb").is_file()

    # Nothing changed: what is there is what would come out again.
    kept = tmp_path / "folder" / "small.ipynb"
    same = ["run", "small", "--preset", "large", "-o", str(kept)]
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert main(same) == 0
    out = capsys.readouterr().out
    assert "unchanged since its last run" in out
    assert "not reproduced: half is 15.0." in out
    assert kept.stat().st_mtime_ns == before
    assert main([*same, "--force"]) == 0
    assert kept.stat().st_mtime_ns > before

    # One that fails takes the place of no notebook that did not.
    before = kept.read_bytes()
    assert main(["run", "small", "-p", "number", "999", "-o", str(kept)]) == 1
    failed = project.build / "failed" / "small.ipynb"
    told = f"too large\nThe executed notebook is kept in {failed}: look"
    assert told in capsys.readouterr().err
    assert "AssertionError" in failed.read_text()
    assert kept.read_bytes() == before


@pytest.mark.parametrize("file", ["book/findings.py", "complexity.py", "published/a.csv"])
def test_what_a_chapter_shows_follows_from_the_package(project, tmp_path, monkeypatch, file):
    package = tmp_path / "copy"
    (package / "book").mkdir(parents=True)
    (package / "published").mkdir()
    monkeypatch.setattr("topo_utils.book.run.__file__", str(package / "book" / "run.py"))
    monkeypatch.setattr("topo_utils.store.__file__", str(package / "store.py"))
    monkeypatch.setattr("topo_utils.book.run.source_digest", source_digest.__wrapped__)
    for name in (file, "book/findings.py", "book/pages.py"):
        (package / name).write_text("before")
    before = key(project, "small", {})
    (package / "book" / "pages.py").write_text("after")  # makes pages of what was executed
    assert key(project, "small", {}) == before
    (package / file).write_text("after")
    assert key(project, "small", {}) != before


def test_a_chapter_that_was_edited_while_it_ran_is_run_again(project, tmp_path):
    source = project.notebooks / "small.py"
    edit = "\n# %%\nfrom pathlib import Path\nPath('small.py').write_text(''.join(EDITED))\n"
    edited = CHAPTER.replace("half is", "it is")
    source.write_text(CHAPTER + edit.replace("EDITED", repr(edited)))
    _, fresh = project.run_once("small", {}, tmp_path / "out.ipynb", progress=False)
    assert fresh
    assert source.read_text() == edited
    assert project.run_once("small", {}, tmp_path / "out.ipynb", progress=False)[1]


OTHER_KERNEL = HEADER.replace("name: python3", "name: julia-1.9").replace(": python", ": julia")


@pytest.mark.parametrize("header", ["", OTHER_KERNEL.partition("\n\n")[0]], ids=["none", "other"])
def test_a_chapter_runs_in_this_python_whatever_is_around(tmp_path, monkeypatch, header):
    # A python3 of others wherever kernels are looked for, settings of IPython that break a run, no
    # home that can be written to, and a clone in a place with a difficult name.
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    other = {"argv": [sys.executable, "-c", ""], "display_name": "other", "language": "python"}
    kernel.write_text(json.dumps(other))
    for variable in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "first.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("number = -1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(startup))
    monkeypatch.setenv("HOME", str(kernel / "home"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "mine {x} é").mkdir()
    project = make_project(tmp_path / "mine {x} é")
    (project.notebooks / "small.py").write_text(
        f"{header}\n\n# %% [markdown]\n# # Small\n\n"
        '# %% tags=["parameters"]\nnumber: list[float] = [float("inf")]\n\n'
        "# %%\nassert number != -1\nimport sys\nimport topo_utils.book\n"
        "[sys.executable, topo_utils.__file__, str(number)]\n"
    )
    out = project.root / "out" / "{y}.ipynb"
    project.run("small", {"number": [1.0, -math.inf]}, out, progress=False)
    text = out.read_text(encoding="utf-8")
    json.loads(text, parse_constant=pytest.fail)  # Infinity is no JSON
    notebook = nbformat.reads(text, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    assert used_parameters(notebook) == {"number": [1.0, -math.inf]}
    (output,) = notebook.cells[-1].outputs
    told = ast.literal_eval("".join(output.data["text/plain"]))
    assert told == [sys.executable, topo_utils.__file__, "[1.0, -inf]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of one chapter and one of another: number 3, 5, and 5 with a mode."""
    project = make_project(tmp_path_factory.mktemp("runs"))
    (project.notebooks / "other.py").write_text(CHAPTER)
    with (project.root / "_toc.yml").open("a", encoding="utf-8") as toc:
        toc.write("  - file: other\n")
    out = project.root / "out"
    for name, parameters in (("a", {}), ("b", {"number": 5.0}), ("c", {"mode": "loud"})):
        project.run("small", parameters, out / f"{name}.ipynb", progress=False)
    project.run("other", {}, out / "other.ipynb", progress=False)
    return project, out


def test_two_runs_are_compared(runs):
    _, out = runs
    found = compare_runs(out / "a.ipynb", out / "b.ipynb")
    assert found["parameters"] == {"number": (3.0, 5.0)}
    assert found["results"] == {
        "verdict": ("reproduced", "not reproduced"),
        "half": ("1.5 [0.5, 2.5]", "2.5 [1.5, 3.5]"),
        "a_double": ("6", "10"),
        "paragraph 1": ("Half of it is 1.50.", "Half of it is 2.50."),
    }
    assert compare_runs(out / "a.ipynb", out / "a.ipynb") == {"parameters": {}, "results": {}}
    found = compare_runs(out / "a.ipynb", out / "c.ipynb")
    assert found == {"parameters": {"mode": ("quiet", "loud")}, "results": {}}


def test_what_cannot_be_compared_is_said(runs, tmp_path):
    _, out = runs
    with pytest.raises(BookError, match=r"a run of small, .* of other\nGive two runs of one"):
        compare_runs(out / "a.ipynb", out / "other.ipynb")
    with pytest.raises(BookError, match=r"there is no notebook .*none.ipynb\nRun a chapter"):
        compare_runs(out / "a.ipynb", tmp_path / "none.ipynb")
    (tmp_path / "text.ipynb").write_text("no notebook")
    with pytest.raises(BookError, match=r"text.ipynb cannot be read"):
        compare_runs(out / "a.ipynb", tmp_path / "text.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "empty.ipynb")
    with pytest.raises(BookError, match="is no finished run of a chapter"):
        compare_runs(tmp_path / "empty.ipynb", out / "a.ipynb")
    for file, text in (("number.ipynb", "5"), ("none.json", "null"), ("deep.json", "[" * 10**5)):
        (tmp_path / file).write_text(text)
        with pytest.raises(BookError, match=r"cannot be read.*\nGive a notebook that topobook run"):
            compare_runs(tmp_path / file, out / "a.ipynb")


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: run.metadata.pop("papermill"),
        lambda run: run.metadata.update(papermill=[1]),
        lambda run: run.metadata.papermill.pop("input_path"),
        lambda run: run.metadata.papermill.update(input_path=None),
        lambda run: run.metadata.papermill.pop("parameters"),
        lambda run: run.metadata.papermill.update(parameters=[3]),
        lambda run: run.metadata.pop("topobook"),
        lambda run: run.metadata.update(topobook="key"),
        lambda run: run.cells.clear(),
        lambda run: [c.metadata.update(tags=[]) for c in run.cells],
        lambda run: [
            o.metadata.clear() or o.metadata.update(topobook_finding={"verdict": 1})
            for c in run.cells
            for o in c.get("outputs", [])
            if "metadata" in o
        ],
    ],
)
def test_a_notebook_that_is_no_run_is_told_whatever_it_lacks(runs, tmp_path, damage):
    _, out = runs
    notebook = nbformat.read(out / "a.ipynb", as_version=4)
    damage(notebook)
    (tmp_path / "odd.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(BookError, match=r"odd\.ipynb (is no finished run of a|cannot be read)"):
        compare_runs(out / "b.ipynb", tmp_path / "odd.ipynb")


def test_a_run_becomes_a_page(runs, tmp_path, monkeypatch):
    project, out = runs
    (tmp_path / "é").mkdir()  # of which Jupyter Book speaks
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "é"))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    page = project.write_page(out / "b.ipynb", tmp_path / "page")
    assert page == tmp_path / "page" / "small.html"
    text = words(page.read_text())
    assert "Half of it is 2.50" in text
    assert "-p number 5.0" in text
    project.write_page(out / "a.ipynb", tmp_path / "page")  # again: in the place of the last
    assert "Half of it is 1.50" in words(page.read_text())
    (tmp_path / "mine").mkdir()
    with pytest.raises(BookError, match=r"mine exists and is no rendered page\nName another"):
        project.write_page(out / "a.ipynb", tmp_path / "mine")


@pytest.mark.parametrize(
    ("url", "repository"),
    [
        ("https://github.com/some-one/topo.git", "https://github.com/some-one/topo"),
        ("git@github.com:some-one/to.po\n", "https://github.com/some-one/to.po"),
        ("https://github.com/some-one/topo/", "https://github.com/some-one/topo"),
        ("/home/some-one/topo", None),
        ("", None),
    ],
)
def test_the_repository_is_told_in_one_place(project, monkeypatch, url, repository):
    monkeypatch.setenv("TOPOBOOK_REPOSITORY", url)
    assert project.repository() == repository
    monkeypatch.delenv("TOPOBOOK_REPOSITORY")
    subprocess.run(["git", "init", "-q", str(project.root)], check=True)
    assert project.repository() is None
    if url:
        command = ["git", "-C", str(project.root), "remote", "add", "origin", url.strip()]
        subprocess.run(command, check=True)
    assert project.repository() == repository


def test_chapters_are_exported_for_binder_and_colab(project, monkeypatch, tmp_path):
    monkeypatch.delenv("TOPOBOOK_REPOSITORY", raising=False)
    (plain,) = project.export_notebooks(tmp_path / "plain")
    notebook = nbformat.read(plain, 4)
    nbformat.validate(notebook)
    assert [c.source for c in notebook.cells] == [c.source for c in project.read("small").cells]
    monkeypatch.setenv("TOPOBOOK_REPOSITORY", "https://github.com/some-one/topo")
    (published,) = project.export_notebooks(tmp_path / "published")
    cells = nbformat.read(published, 4).cells
    assert "topo_utils[book] @ git+https://github.com/some-one/topo" in cells[1].source
    assert len(cells) == len(notebook.cells) + 1
    assert not any(cell.get("outputs") for cell in cells)
    before = published.read_bytes()
    project.export_notebooks(tmp_path / "published")
    assert published.read_bytes() == before


def test_what_is_no_longer_staged_is_gone(project):
    sync(project.build, {"a.md": "1", "b/c.md": "2"})
    before = (project.build / "a.md").stat().st_mtime_ns
    sync(project.build, {"a.md": "1", "d.md": "3"})
    assert sorted(f.name for f in project.build.rglob("*.md")) == ["a.md", "d.md"]
    assert (project.build / "a.md").stat().st_mtime_ns == before


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
        (["run", "other"], "no chapter 'other'\nChapters: small"),
        (["run", "smal.py"], "no chapter 'smal.py'\nDid you mean small? Chapters: small"),
        (["run", "small", "--preset", "x"], "no preset 'x'\nPresets: default, large"),
        (["run", "small", "--preset", "larg"], "no preset 'larg'\nDid you mean large? Presets:"),
        (
            ["run", "small", "-p", "size", "3"],
            "chapter small has no parameter 'size'\nIt has: number (float), words",
        ),
        (
            ["run", "small", "-p", "nunber", "3"],
            "chapter small has no parameter 'nunber'\nDid you mean number? It has: number",
        ),
        (
            ["run", "small", "-p", "number", "x"],
            "parameter number is 'x'\nAccepted: float (A number",
        ),
        (["run", "small", "-p", "number", "None"], "parameter number is None\nAccepted: float"),
        (
            ["run", "small", "-p", "mode", "shy"],
            "parameter mode is 'shy'\nAccepted: Literal['loud'",
        ),
        (["run", "small", "-p", "levels", "0.5"], "parameter levels is 0.5\nAccepted: list[float]"),
        (["run", "small", "-p", "levels", "[x"], "parameter levels is '[x'\nAccepted: list[float]"),
        (
            ["run", "small", "-o", "x.html"],
            "-o x.html is no notebook and no folder\nAccepted: a notebook (NAME.ipynb)",
        ),
        (["book", "--preset", "x"], "no preset 'x'"),
    ],
)
def test_wrong_usage_stops_before_anything_runs(project, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(project.root)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"topobook: {message}")
    assert error.count("\n") == 2
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
    with pytest.raises(
        BookError, match=r"has 0 cells tagged parameters\nNeeded in notebooks/small"
    ):
        project.parameters("small")


def test_a_new_chapter_runs_and_has_a_finding(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    assert main(["new", "my_claim", "--title", "Is it so?"]) == 0
    assert project.chapters() == ["small", "my_claim"]
    assert project.title("my_claim") == "Is it so?"
    assert main(["run", "my_claim", "-p", "n_images", "3"]) == 0
    assert "The interval of the decay" in capsys.readouterr().out
    notebook = nbformat.read(project.build / "runs" / "my_claim.ipynb", 4)
    # The answer and the figure stand where there was made room for them.
    top = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]
    assert finding(notebook) == top[0].outputs[0].metadata["topobook_finding"]
    assert "image/svg+xml" in top[1].outputs[0].data
    (told,) = prose(notebook)
    assert re.search(r"On 3 images of .*, a decay of \*\*-\d\.\d\d \[-\d", told)
    for name, wrong in (("my_claim", "there is a page"), ("intro", "a page"), ("A b", "no name")):
        assert main(["new", name]) == 2
        assert wrong in capsys.readouterr().err


def test_without_a_book_there_is_nothing_to_run(tmp_path):
    with pytest.raises(BookError, match=r"no book in .*: _toc.yml and notebooks are not there\nGo"):
        Project(tmp_path)


@pytest.mark.parametrize(
    ("lost", "put", "missing"),
    [
        ("notebooks", None, "notebooks is not there"),
        ("notebooks", "file", "notebooks is not there"),
        ("notebooks", "link", "notebooks is not there"),
        ("_toc.yml", None, "_toc.yml is not there"),
        ("_toc.yml", "folder", "_toc.yml is not there"),
        ("_toc.yml", "link", "_toc.yml is not there"),
    ],
)
def test_half_a_book_is_not_taken_for_another(project, monkeypatch, capsys, lost, put, missing):
    monkeypatch.chdir(project.root)
    (project.root / lost).rename(project.root / "lost")
    make = {"file": Path.touch, "folder": Path.mkdir, "link": lambda p: p.symlink_to("nowhere")}
    if put:
        make[put](project.root / lost)
    assert main(["list"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"topobook: no book in {project.root}: {missing}\nGo to the folder of")


def test_the_book_is_the_nearest_above_else_that_of_the_package(project, monkeypatch, capsys):
    monkeypatch.chdir(project.notebooks)
    assert Project().root == project.root
    monkeypatch.setattr(Project, "build_book", lambda *_, **__: None)
    assert main(["book"]) == 0
    assert capsys.readouterr().err == ""
    elsewhere = project.root.parent / f"{project.root.name} elsewhere"
    (elsewhere / "notebooks").mkdir(parents=True)  # as many have: no sign of a book
    monkeypatch.chdir(elsewhere)
    assert Project().root == Path(topo_utils.__file__).parents[1]
    assert main(["book"]) == 0
    assert f"no book here: taken is the one in {Project().root}" in capsys.readouterr().err


def parsed(annotation, text):
    return Parameter("p", annotation, None, "").parse(text)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("float", "1e-3", 1e-3),
        ("float", "2", 2.0),
        ("float", "-1_000.5", -1000.5),
        ("float", "inf", math.inf),
        ("float", "-Infinity", -math.inf),
        ("float", "float('-inf')", -math.inf),
        ("list[float]", "[-inf, 0, 1e-3]", [-math.inf, 0.0, 1e-3]),
        ("int | None", "None", None),
        ("AtLeast[2] | None", "2", 2),
        ("NonEmpty[AtLeast[0]]", "[0]", [0]),
        ("bool", "true", True),
        ("bool", "False", False),
        ("str", "3", "3"),
        ("str", "None", "None"),
        ("str | None", "3x", "3x"),
        ("str | None", "1e3", "1e3"),
        ("str | None", "0123", "0123"),
        ("str | None", "true", "true"),
        ("str | None", "nan", "nan"),
        ("str | None", "'quoted'", "'quoted'"),
        ("str | None", "[1]", "[1]"),
        ("str | None", "", ""),
        ("str | None", "None", None),
        ('Literal["a", "1"]', "1", "1"),
        ('Literal["a", 1]', "1", 1),
        ("int | str", "1", 1),
        ("list[str]", "['a', 'b']", ["a", "b"]),
        ("list[str]", "['1', 'None']", ["1", "None"]),
        ("list[float]", "[0, -0.5]", [0.0, -0.5]),
    ],
)
def test_values_are_read_as_declared(annotation, text, value):
    assert parsed(annotation, text) == value
    assert type(parsed(annotation, text)) is type(value)


@given(st.text() | st.sampled_from(["None ", "(None)", "'None'", "-1e3", "inf", "{}"]))
def test_a_text_stays_as_it_was_typed(text):
    assert parsed("str", text) == text
    assert parsed("str | None", text) == (text if text != "None" else None)


def json_of(value):
    """A value as it comes back from JSON that every reader takes."""
    return json.loads(as_json(value), parse_constant=pytest.fail)


numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_characters="\0")).filter(
    lambda t: not t.startswith("folder:")
)


@given(
    st.one_of(
        st.tuples(st.just("float"), numbers),
        st.tuples(st.just("int | None"), st.integers(-(2**63) + 1, 2**63 - 1) | st.none()),
        st.tuples(st.just("str"), texts),
        st.tuples(st.just("str | None"), (texts | st.none()).filter(lambda t: t != "None")),
        st.tuples(st.just("list[float]"), st.lists(numbers)),
        st.tuples(st.just("list[str]"), st.lists(texts)),
        st.tuples(st.just("list[list[float]]"), st.lists(st.lists(numbers))),
    )
)
def test_a_value_comes_back_from_what_is_typed_and_what_is_written(case):
    annotation, value = case
    parameter = Parameter("p", annotation, None, "")
    assert parameter.restore(json_of(value)) == value
    (words_,) = shlex.split(typed(value))  # what the page says to type, as a shell hands it over
    assert parameter.parse(words_) == value


@pytest.mark.parametrize(
    ("annotation", "typed", "value"),
    [
        ("Path | None", "weights.pt", "{here}/weights.pt"),
        ("Path | None", "../weights.pt", "{above}/weights.pt"),
        ("Path | None", "~/weights.pt", "{home}/weights.pt"),
        ("Path | None", "/weights.pt", "/weights.pt"),
        ("Path | None", "None", None),
        ("list[Path]", "['a', '/b']", ["{here}/a", "/b"]),
        ("str", "folder:pictures", "folder:{here}/pictures"),
        ("str | None", "folder:~", "folder:{home}"),
        ("list[str]", "['digits', 'folder:a']", ["digits", "folder:{here}/a"]),
        ("list[list[str]]", "[['folder:a', 'b']]", [["folder:{here}/a", "b"]]),
        ("str", "pictures", "pictures"),
    ],
)
def test_a_path_is_meant_from_where_it_is_typed(tmp_path, monkeypatch, annotation, typed, value):
    here = tmp_path.resolve() / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", "/home/some-one")
    places = {"{here}": str(here), "{above}": str(here.parent), "{home}": "/home/some-one"}
    value = json.dumps(value)
    for name, place in places.items():
        value = value.replace(name, place)
    assert parsed(annotation, typed) == json.loads(value)
    # What a chapter or a preset says is meant from the folder in which chapters run.
    assert Parameter("p", "list[Path]", None, "").check(["a"]) == ["a"]
    assert Parameter("p", "str", None, "").check("folder:a") == "folder:a"


def test_types_are_shown_in_words():
    shown = {"AtLeast[2] | None": "int >= 2 | None", "list[AtLeast[0]]": "list[int >= 0]"}
    shown |= {"NonEmpty[list[str]]": "list[list[str]], not empty", "Path": "Path"}
    assert {a: Parameter("p", a, None, "").type_ for a in shown} == shown


def test_a_list_is_typed_as_a_person_would():
    assert typed(["efficientnet_lite0"]) == """'["efficientnet_lite0"]'"""


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("int", "1.5"),
        ("int", "true"),
        ("int", "1e3"),
        ("int", "9" * 5000),
        ("AtLeast[0]", str(2**63)),
        ("list[int]", f"[{-(2**64)}]"),
        ("int", "(" * 5000),
        ("bool", "1"),
        ("bool", "yes"),
        ("float", "nan"),
        ("float", "x"),
        ("list[float]", "[0, nan]"),
        ("list[str]", "[1, 2]"),
        ("AtLeast[0]", "-1"),
        ("AtLeast[2] | None", "1"),
        ("list[AtLeast[1]]", "[3, 0]"),
        ("NonEmpty[str]", "[]"),
        ("NonEmpty[list[str]]", "['a']"),
    ],
)
def test_values_of_another_type_are_refused(annotation, text):
    with pytest.raises(BookError, match=r"parameter p is .*\nAccepted: "):
        parsed(annotation, text)


@pytest.mark.parametrize(
    ("parameters", "out"),
    [({"words": "caf\udce9"}, "a"), ({"words": ["folder:caf\udce9"]}, "a"), ({}, "caf\udce9")],
)
def test_a_name_that_is_no_text_is_told_before_a_kernel_starts(project, parameters, out):
    with pytest.raises(BookError, match=r"caf\\udce9.* is not in UTF-8\nRename"):
        project.run("small", parameters, project.build / f"{out}.ipynb")
    assert not project.build.exists()


def test_a_parameter_is_given_once(project):
    with pytest.raises(BookError, match="parameter number is given more than once\nGive it once"):
        project.resolve("small", texts=[("number", "1"), ("mode", "loud"), ("number", "2")])


@pytest.mark.parametrize("chapter", Project(Path(__file__).parents[1]).chapters())
def test_counts_and_seeds_that_cannot_be_are_refused_before_a_kernel_starts(chapter):
    declared = Project(Path(__file__).parents[1]).parameters(chapter).values()
    counts = [p for p in declared if isinstance(p.default, int) and p.default is not True]
    for parameter in counts:
        with pytest.raises(BookError, match=rf"{parameter.name} is -5\nAccepted: int >= \d"):
            parameter.parse("-5")
        assert parameter.parse(str(parameter.default)) == parameter.default


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.214, "0.21 s"),
        (12.3, "12 s"),
        (210, "3.5 min"),
        (3600, "1 h"),
        (1e7, "2,778 h"),
    ],
)
def test_a_time_has_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
