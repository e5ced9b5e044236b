"""Run a chapter headlessly, build the book, and what a chapter says of its own result.

Chapters are py:percent files in ``notebooks/`` with one cell tagged `parameters`. Each is executed
by papermill with checked parameters; Jupyter Book then renders the executed notebooks beside the
pages of prose. Everything made lies under ``_build/``:

    executed/CHAPTER.ipynb    the notebooks of the last good build
    html/index.html           the last good book
    results.json              the verdict of every finding
    failed/CHAPTER.ipynb      a chapter that stopped, for inspection
    runs/CHAPTER.ipynb        single runs with other parameters
    source/, jupyter-book/    what Jupyter Book reads and writes
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import logging
import math
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

__all__ = ["VERDICTS", "BookError", "Project", "glue", "record_finding"]

#: What a finding may come to.
VERDICTS = ("reproduced", "reproduced with limits", "not reproduced", "inconclusive")

_FINDING = "topobook_finding"  # key in the metadata of the output that shows a verdict
_COLOURS = dict(zip(VERDICTS, ("tip", "note", "warning", "note"), strict=True))


class BookError(Exception):
    """What was wrong, and what to do; shown to the user without a traceback."""


# ---------------------------------------------------------------------------------------------
# Called in chapters.


def glue(**values):
    """Make values of the run available to the chapter's prose as ``{glue:text}`name:format```.

    Parameters
    ----------
    **values : float, int or str
        Numpy numbers become plain ones, so that a format such as ``.2f`` applies.
    """
    from myst_nb import glue as glue_one

    for name, value in values.items():
        glue_one(name, value.item() if hasattr(value, "item") else value, display=False)


def record_finding(claim, verdict, reason, numbers):
    """Show a chapter's verdict, and hand it to ``results.json``.

    Parameters
    ----------
    claim : str
        What was tested, in one sentence.
    verdict : str
        One of `VERDICTS`.
    reason : str
        Why, in one sentence.
    numbers : dict of str to float or to (float, float, float)
        The headline numbers by name: a value, or a value with the lower and the upper end of its
        interval. The first is shown in the findings table.

    Raises
    ------
    ValueError
        Unknown verdict, no numbers, or one that is not finite.
    """
    from IPython.display import display

    if verdict not in VERDICTS:
        raise ValueError(f"unknown verdict {verdict!r}; accepted: {', '.join(VERDICTS)}")
    if not numbers:
        raise ValueError("a finding needs at least one number")
    recorded = {}
    for name, number in numbers.items():
        value, *interval = map(float, number if isinstance(number, list | tuple) else [number])
        if not all(map(math.isfinite, (value, *interval))) or len(interval) not in (0, 2):
            raise ValueError(
                f"number {name!r} is {number!r}; accepted: a finite number, or (value, low, high)"
            )
        recorded[name] = {"value": value}
        if interval:
            recorded[name] |= {"low": interval[0], "high": interval[1]}
    finding = {"claim": claim, "verdict": verdict, "reason": reason, "numbers": recorded}
    finding["headline"] = next(iter(recorded))  # notebooks are kept with their keys sorted
    box = f":::{{admonition}} Verdict: {verdict}\n:class: {_COLOURS[verdict]}\n{reason}\n:::"
    display({"text/markdown": box, "text/plain": box}, raw=True, metadata={_FINDING: finding})


# ---------------------------------------------------------------------------------------------
# Chapters and their parameters.


@dataclass(frozen=True)
class Parameter:
    """One assignment ``name: annotation = default``, its meaning in the comment above it."""

    name: str
    annotation: str
    default: Any
    meaning: str

    def check(self, value):
        """`value` if it is of the declared type, else a `BookError`."""
        from pydantic import TypeAdapter, ValidationError

        # The annotation is source code of this project, written in these few names.
        type_ = eval(self.annotation, {"Literal": Literal})
        try:
            return TypeAdapter(type_).validate_python(value, strict=True)
        except ValidationError:
            raise BookError(
                f"parameter {self.name} is {value!r}; accepted: {self.annotation} ({self.meaning})"
            ) from None

    def parse(self, text):
        """The value that `text` stands for on the command line."""
        if self.annotation == "str":
            return text
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError):
            value = text
        return self.check(value)


class Project:
    """A clone of the book: its chapters, presets and builds.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``notebooks/`` and ``_toc.yml``; by default the current folder if it
        does, else the clone from which the package was installed.
    build : path, optional
        Where everything made goes, by default ``_build`` in that folder.

    Raises
    ------
    BookError
        No such folder.
    """

    def __init__(self, root=None, build=None):
        candidates = [Path(root)] if root else [Path.cwd(), Path(__file__).parents[1]]
        for folder in candidates:
            if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
                self.root = folder.resolve()
                break
        else:
            raise BookError(
                f"no book in {' or '.join(map(str, candidates))}: needed are notebooks/ and "
                "_toc.yml. Run topobook inside a clone of the project."
            )
        self.notebooks = self.root / "notebooks"
        self.build = Path(build or self.root / "_build").resolve()

    def pages(self):
        """Names of all pages in the order of ``_toc.yml``."""
        toc = _read_yaml(self.root / "_toc.yml")
        parts = toc.get("parts", [toc])
        return [toc["root"]] + [page["file"] for part in parts for page in part["chapters"]]

    def chapters(self):
        """Names of the pages that are executed: those written as py:percent files."""
        return [page for page in self.pages() if (self.notebooks / f"{page}.py").is_file()]

    def source(self, chapter):
        """Path of a chapter's source."""
        if chapter not in self.chapters():
            raise BookError(f"no chapter {chapter!r}; chapters: {', '.join(self.chapters())}")
        return self.notebooks / f"{chapter}.py"

    def read(self, chapter):
        """A chapter as a notebook without outputs."""
        import jupytext

        return jupytext.read(self.source(chapter))

    def parameters(self, chapter):
        """The parameters that a chapter declares, by name."""
        return _declared(chapter, self.source(chapter).read_text(encoding="utf-8"))

    def presets(self):
        """Parameters by preset and chapter, each checked against what the chapter declares."""
        presets = _read_yaml(self.notebooks / "presets.yml")
        for preset, chapters in presets.items():
            for chapter, values in chapters.items():
                self._check(chapter, values, f"preset {preset}: ")
        return presets

    def resolve(self, chapter, preset="default", texts=()):
        """Checked parameters of one run.

        Parameters
        ----------
        chapter, preset : str
            Names.
        texts : sequence of (str, str)
            Names and values as typed on the command line; they go over the preset's.

        Returns
        -------
        dict
            Only what differs from the chapter's own defaults.

        Raises
        ------
        BookError
            Unknown chapter, preset or parameter, or a value of another type.
        """
        declared, presets = self.parameters(chapter), self.presets()
        if preset not in presets:
            raise BookError(f"no preset {preset!r}; presets: {', '.join(presets)}")
        values = dict(presets[preset].get(chapter, {}))
        for name, text in texts:
            values[name] = declared[name].parse(text) if name in declared else text
        self._check(chapter, values)
        return {name: value for name, value in values.items() if value != declared[name].default}

    def _check(self, chapter, values, where=""):
        declared = self.parameters(chapter)
        for name, value in values.items():
            if name not in declared:
                raise BookError(
                    f"{where}chapter {chapter} has no parameter {name!r}; it has: "
                    + ", ".join(f"{p.name} ({p.annotation})" for p in declared.values())
                )
            declared[name].check(value)

    # -----------------------------------------------------------------------------------------
    # Execution.

    def run(self, chapter, parameters, out, *, progress=True):
        """Execute a chapter; the notebook is written to `out` also when it fails.

        Parameters
        ----------
        chapter : str
            Name.
        parameters : dict
            As `resolve` gives them.
        out : path
            Of the executed notebook.
        progress : bool
            Whether to show a bar by cells.

        Returns
        -------
        nbformat.NotebookNode
            The executed notebook.

        Raises
        ------
        BookError
            A cell failed: the message has the chapter, the cell, its error and where the notebook
            is kept.
        """
        import papermill
        from papermill.exceptions import PapermillExecutionError

        # It warns of parameters whose annotation it cannot read; they are checked already.
        logging.getLogger("papermill").setLevel(logging.ERROR)
        notebook = self.read(chapter)
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        try:
            executed = papermill.execute_notebook(
                notebook,
                str(out),
                parameters,
                cwd=str(self.notebooks),
                progress_bar=progress,
                kernel_name="python3",
                # Its one warning, that it talks unencrypted to this very process, is none.
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
            )
        except PapermillExecutionError as error:
            where = f"cell [{error.exec_count}]" if error.exec_count else f"cell {error.cell_index}"
            first_line = error.source.strip().partition("\n")[0]
            # The end of the traceback: the error as it is printed, with its notes.
            printed = _plain("\n".join(error.traceback)).rpartition(f"{error.ename}: ")[2].strip()
            raise BookError(
                f"chapter {chapter} failed in {where} ({first_line}): {error.ename}: "
                f"{printed}\nThe executed notebook is kept in {out}"
            ) from error
        executed.metadata.papermill["input_path"] = f"notebooks/{chapter}.py"
        executed.metadata.papermill["output_path"] = out.name
        executed.metadata["topobook"] = {
            "key": self._key(chapter, parameters),
            "seconds": round(time.perf_counter() - start, 1),
        }
        _write_notebook(executed, out)
        return executed

    def _key(self, chapter, parameters):
        """Digest of all that a chapter's result follows from: if it is the same, so is the run."""
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
        digest.update(self.source(chapter).read_bytes())
        for file in sorted(Path(__file__).parent.rglob("*")):
            ours = ("book.py", "__main__.py", "sweep.py")
            if file.suffix in (".py", ".csv", ".json") and file.name not in ours:
                digest.update(file.read_bytes())
        digest.update(json.dumps(_environment()).encode())
        return digest.hexdigest()

    def build_book(self, preset="default", *, progress=True):
        """Execute all chapters and render the book.

        A chapter whose source, parameters, package and environment are those of its last
        execution is not executed again. The last good book stays in place until the new one is
        complete.

        Parameters
        ----------
        preset : str
            Which parameters the chapters get.
        progress : bool
            Whether to say on stdout what is done.

        Returns
        -------
        pathlib.Path
            Of the book's first page.

        Raises
        ------
        BookError
            A chapter failed, or Jupyter Book did (a warning is an error).
        """
        import nbformat

        say = print if progress else lambda *_, **__: None
        runs = {chapter: self.resolve(chapter, preset) for chapter in self.chapters()}
        failed = self.build / "failed"
        shutil.rmtree(failed, ignore_errors=True)
        executed = {}
        for chapter, parameters in runs.items():
            kept = self.build / "executed" / f"{chapter}.ipynb"
            if kept.is_file():
                notebook = nbformat.read(kept, as_version=4)
                if notebook.metadata.get("topobook", {}).get("key") == self._key(
                    chapter, parameters
                ):
                    executed[chapter] = notebook
                    say(f"{chapter}: unchanged")
                    continue
            notebook = self.run(chapter, parameters, failed / kept.name, progress=progress)
            kept.parent.mkdir(parents=True, exist_ok=True)
            (failed / kept.name).replace(kept)
            executed[chapter] = notebook
            say(f"{chapter}: executed in {notebook.metadata['topobook']['seconds']} s")
        shutil.rmtree(failed, ignore_errors=True)

        results = {
            chapter: finding for chapter, nb in executed.items() if (finding := _finding(nb))
        }
        source = self.build / "source"
        self._stage(source, executed, results)
        html = self._render(source, say)
        _replace_folder(html, self.build / "html")
        _write(
            self.build / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n"
        )
        index = self.build / "html" / "index.html"
        say(f"The book is at {index}")
        return index

    def _stage(self, source, executed, results):
        """What Jupyter Book reads; it tells by their times which files changed."""
        for name in ("_config.yml", "_toc.yml"):
            _write(source / name, (self.root / name).read_text(encoding="utf-8"))
        for pattern in ("*.md", "*.bib", "_static/*"):
            for file in self.notebooks.glob(pattern):
                _write(source / file.relative_to(self.notebooks), file.read_text(encoding="utf-8"))
        for chapter, notebook in executed.items():
            _write_notebook(notebook, source / f"{chapter}.ipynb")
            for name, picture in _figures(notebook):
                _write(source / "_figures" / f"{name}.svg", picture)
        _write(source / "_findings.md", _findings_table(results))

    def _render(self, source, say):
        out = self.build / "jupyter-book"
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
        command += [str(source), "--path-output", str(out), "-W", "-n", "--keep-going", "-q"]
        say("rendering the pages")
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.root, check=False)
        html = out / "_build" / "html"
        missing = [page for page in self.pages() if not (html / f"{page}.html").is_file()]
        if done.returncode or missing:
            lines = _plain(done.stdout + done.stderr).splitlines()
            told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-15:]
            # A page with a warning would not be looked at again by an incremental build.
            shutil.rmtree(out, ignore_errors=True)
            raise BookError(
                "Jupyter Book could not render the pages"
                + (f" (missing: {', '.join(missing)})" if missing else "")
                + "; the last good book is still in place\n"
                + "\n".join(told)
            )
        return html


# ---------------------------------------------------------------------------------------------


@functools.cache  # presets are checked against all chapters, again and again
def _declared(chapter, text):
    """The parameters declared in the text of a chapter."""
    import jupytext

    cells = [
        cell.source
        for cell in jupytext.reads(text, fmt="py:percent").cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    if len(cells) != 1:
        raise BookError(f"chapter {chapter} has {len(cells)} cells tagged parameters; needed: 1")
    (source,) = cells
    lines = source.splitlines()

    def comment_above(node):
        """The comment lines right above an assignment, joined."""
        start = node.lineno - 1
        first = start
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
        return " ".join(line.lstrip("# ") for line in lines[first:start])

    return {
        node.target.id: Parameter(
            node.target.id,
            ast.unparse(node.annotation),
            ast.literal_eval(node.value),
            comment_above(node),
        )
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
    }


@functools.cache
def _environment():
    """Python and every installed package with its version."""
    return [sys.version, *sorted({f"{d.name}=={d.version}" for d in distributions()})]


def _finding(notebook):
    """What `record_finding` left in an executed notebook, or None."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if _FINDING in output.get("metadata", {}):
                return dict(output["metadata"][_FINDING])
    return None


def _figures(notebook):
    """Name and SVG of every figure that a chapter names in its cells' metadata."""
    for cell in notebook.cells:
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", []):
            if name and "image/svg+xml" in output.get("data", {}):
                yield name, "".join(output["data"]["image/svg+xml"])


def format_number(number):
    """A recorded number as text, with its interval where it has one."""
    text = f"{number['value']:.3g}"
    return f"{text} [{number['low']:.3g}, {number['high']:.3g}]" if "low" in number else text


def _findings_table(results):
    """A Markdown table of all findings, for the book's first page."""
    rows = ["| chapter | claim | verdict | number |", "|---|---|---|---|"]
    for chapter, finding in results.items():
        name = finding["headline"]
        number = finding["numbers"][name]
        rows.append(
            f"| [](./{chapter}.ipynb) | {finding['claim']} | **{finding['verdict']}** | "
            f"{name.replace('_', ' ')}: {format_number(number)} |"
        )
    return "\n".join(rows) + "\n"


def _plain(text):
    """Text without the colours of a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def _read_yaml(path):
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BookError(f"{path} cannot be read: {error}") from None


def _write(path, text):
    """Write a text file, unless it says the same already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_notebook(notebook, path):
    import nbformat

    _write(path, nbformat.writes(notebook))


def _replace_folder(new, old):
    """Put a copy of folder `new` in the place of `old`, in two renames."""
    fresh, stale = old.with_name(old.name + ".new"), old.with_name(old.name + ".old")
    for folder in (fresh, stale):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(new, fresh)
    if old.exists():
        old.rename(stale)
    fresh.rename(old)
    shutil.rmtree(stale, ignore_errors=True)
