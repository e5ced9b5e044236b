"""Run a chapter headlessly, build the book, and what a chapter says of its own result.

Chapters are py:percent files in ``notebooks/`` with one cell tagged `parameters`. Each is executed
by papermill with checked parameters; Jupyter Book then renders the executed notebooks beside the
pages of prose. Everything made lies under ``_build/``:

    executed/CHAPTER.ipynb    the last complete run of each chapter
    html/index.html           the last good book
    book.pdf                  the same, printed
    results.json              the verdict of every finding in it
    failed/CHAPTER.ipynb      a chapter that stopped, for inspection
    runs/CHAPTER.ipynb        single runs with other parameters
    source/, jupyter-book/    what Jupyter Book reads and writes

What a page needs beyond its text is added when it is staged: the box "Rerun this page", the
findings, versions and run times, and the scripts that draw formulas and moving pictures, copied
from the packages that carry them so that no page asks another site for anything.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import functools
import hashlib
import json
import logging
import math
import os
import platform
import re
import shlex
import shutil
import site
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from topo_utils.files import check_place, locked, put_back, replacing

__all__ = [
    "VERDICTS",
    "AtLeast",
    "BookError",
    "NonEmpty",
    "Project",
    "compare_runs",
    "glue",
    "record_finding",
]

#: What a finding may come to.
VERDICTS = ("reproduced", "reproduced with limits", "not reproduced", "inconclusive")

_FINDING = "topobook_finding"  # key in the metadata of the output that shows a verdict
_COLOURS = dict(zip(VERDICTS, ("tip", "note", "warning", "note"), strict=True))

#: Scripts that the pages load, by their place in the book: the package and the file in it.
_SCRIPTS = {
    "mathjax/tex-svg.js": ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js"),
    "plotly/plotly.min.js": ("plotly", "package_data/plotly.min.js"),
}
#: The branch on which the chapters lie as notebooks, where the launch buttons lead.
PUBLISHED_BRANCH = "published"


#: Modules that not every installation has, by the extra of the package that brings them.
_EXTRAS = {
    "book": "IPython cripser filelock ipykernel jupyter_book jupytext myst_nb nbclient nbformat "
    "papermill plotly psutil pydantic yaml",
    "cluster": "dask distributed",
    "networks": "timm",
    "pdf": "bs4 playwright pypdf",
}


#: Jupyter Book in a process that ends when this one does, be it killed: then its stdin is closed.
_JUPYTER_BOOK = """
import os, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
from jupyter_book.cli.main import main
main()
"""


class BookError(Exception):
    """What was wrong, and what to do; shown to the user without a traceback.

    Parameters
    ----------
    wrong : str
        What was wrong. More than one line only where another program has said it.
    todo : str
        What to do about it, in one line: what is accepted, or the command to type.
    """

    def __init__(self, wrong, todo):
        super().__init__(wrong, todo)
        self.wrong, self.todo = wrong, todo

    def __str__(self):
        return f"{self.wrong}\n{self.todo}"


def how_to_install(module):
    """The command that installs a module, by its name as it is imported; None if unknown."""
    for extra, modules in _EXTRAS.items():
        if module.partition(".")[0] in modules.split():
            return f"pip install 'topo_utils[{extra}]'"
    return None


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


class AtLeast:
    """Type of a parameter: ``AtLeast[2]`` is a whole number from 2."""

    def __class_getitem__(cls, least):
        from annotated_types import Ge

        return Annotated[int, Ge(least)]


class NonEmpty:
    """Type of a parameter: ``NonEmpty[str]`` is a list of at least one text."""

    def __class_getitem__(cls, item):
        from annotated_types import MinLen

        return Annotated[list[item], MinLen(1)]


@dataclass(frozen=True)
class Parameter:
    """One assignment ``name: annotation = default``, its meaning in the comment above it."""

    name: str
    annotation: str
    default: Any
    meaning: str

    @property
    def type_(self):
        """The annotation as it is shown."""
        shown = re.sub(r"NonEmpty(\[.*\])", r"list\1, not empty", self.annotation)
        return re.sub(r"AtLeast\[(.*?)\]", r"int >= \1", shown)

    def check(self, value, typed=False):
        """`value` if it is of the declared type, else a `BookError`.

        Paths that are `typed` on the command line are made whole: a chapter runs in another folder.
        """
        import pydantic

        def path(text, about):
            return whole_path(text) if about.context else text

        names = {
            "AtLeast": AtLeast,
            "Literal": Literal,
            "NonEmpty": NonEmpty,
            "Path": Annotated[str, pydantic.AfterValidator(path)],
        }
        try:
            # The annotation is source code of this project, written in these few names.
            adapter = pydantic.TypeAdapter(eval(self.annotation, names))
            checked = adapter.validate_python(value, strict=True, context=typed)
        except pydantic.ValidationError:
            raise BookError(
                f"parameter {self.name} is {value!r}",
                f"Accepted: {self.type_} ({self.meaning})",
            ) from None
        except (NameError, TypeError, AttributeError, pydantic.PydanticUserError):
            raise BookError(
                f"parameter {self.name} is declared as {self.annotation}, which is not understood",
                "Declare it in the chapter with bool, int, AtLeast[0], float, str, Path, list, "
                "NonEmpty[str], None and Literal",
            ) from None

        def leaf(item):
            large = isinstance(item, int) and abs(item) >= 2**63
            if item != item or large:
                raise BookError(
                    f"parameter {self.name} is {value!r}, which is "
                    + ("too large" if large else "no number"),
                    f"Accepted: {self.type_} ({self.meaning})",
                )
            if typed and isinstance(item, str) and item.startswith("folder:"):
                return whole_folder(item.removeprefix("folder:"))
            return item

        return _each(leaf, checked)

    def parse(self, text):
        """The value that `text` stands for on the command line.

        Where a text is accepted it stays as it was typed, whatever it looks like; only None is
        none where none is accepted as well.
        """
        readings = [text]
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = _literal(ast.parse(text.strip(), mode="eval").body)
            if value is not None or text == "None":
                readings.insert(isinstance(value, str), value)
        errors = []
        for value in readings:
            try:
                return self.check(value, typed=True)
            except BookError as error:
                errors.append(error)
        raise errors[0]

    def restore(self, value):
        """A value as it was before `_strict` made it fit for JSON."""
        try:
            return self.check(value)
        except BookError:
            numbers = {str(number): number for number in (math.inf, -math.inf, math.nan)}
            return _each(lambda item: numbers.get(item, item), value)

    def accepted(self):
        """The declared type in words."""
        choices = re.fullmatch(r"Literal\[(.*)\]", self.annotation)
        return f"one of `{choices[1]}`" if choices else f"`{self.type_}`"


class Project:
    """A clone of the book: its chapters, presets and builds.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``notebooks/`` and ``_toc.yml``; by default the current folder, or the
        next above it that does, else the clone from which the package was installed.
    build : path, optional
        Where everything made goes, by default ``_build`` in that folder.

    Raises
    ------
    BookError
        No such folder, or the current one holds half a book: another is not taken for it.
    """

    def __init__(self, root=None, build=None):
        here, own = Path(root or Path.cwd()), Path(__file__).parents[1]
        parts = {"_toc.yml": Path.is_file, "notebooks": Path.is_dir}
        candidates = [here] if root else [here, *here.parents, own]
        whole = [f for f in candidates if all(there(f / part) for part, there in parts.items())]
        half = [here / mark for mark in ("_toc.yml", "notebooks/presets.yml")]
        if not whole or (here not in whole and any(map(os.path.lexists, half))):
            missing = [part for part, there in parts.items() if not there(here / part)]
            raise BookError(
                f"no book in {here}: {' and '.join(missing)} "
                + ("is not there" if len(missing) == 1 else "are not there"),
                "Go to the folder of a clone of the project (cd FOLDER), and type it there again",
            )
        self.root = whole[0].resolve()
        self.notebooks = self.root / "notebooks"
        self.build = Path(build or self.root / "_build").resolve()

    def is_here(self):
        """Whether the current folder is in this clone."""
        return Path.cwd().resolve().is_relative_to(self.root)

    def pages(self):
        """Names of all pages in the order of ``_toc.yml``."""
        toc = _read_yaml(self.root / "_toc.yml")
        try:
            parts = toc.get("parts", [toc])
            pages = [toc["root"]] + [page["file"] for part in parts for page in part["chapters"]]
        except (AttributeError, KeyError, TypeError) as error:
            missing = f" ({error} is missing)" if isinstance(error, KeyError) else ""
            raise BookError(
                f"{self.root / '_toc.yml'} is no table of contents{missing}",
                "Needed: root: PAGE, and chapters: with a list of - file: PAGE, or parts: of these",
            ) from None
        for page in pages:
            if not any((self.notebooks / f"{page}{end}").is_file() for end in (".md", ".py")):
                raise BookError(
                    f"{self.root / '_toc.yml'} names the page {page}, which is not there",
                    f"Write notebooks/{page}.md or notebooks/{page}.py, or take the page out",
                )
            if pages.count(page) > 1:
                raise BookError(
                    f"{self.root / '_toc.yml'} names the page {page} more than once",
                    "Leave one of these lines, and take the others out",
                )
        return pages

    def chapters(self):
        """Names of the pages that are executed: those written as py:percent files."""
        return [page for page in self.pages() if (self.notebooks / f"{page}.py").is_file()]

    def source(self, chapter):
        """Path of a chapter's source."""
        if chapter not in self.chapters():
            raise BookError(
                f"no chapter {chapter!r}", _choose("Chapters", chapter, self.chapters())
            )
        return self.notebooks / f"{chapter}.py"

    def read(self, chapter):
        """A chapter as a notebook without outputs."""
        import jupytext

        notebook = jupytext.read(self.source(chapter), fmt="py:percent")
        # Whatever its header names: it is executed by the Python that executes this.
        python = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        notebook.metadata["kernelspec"] = python
        return notebook

    def parameters(self, chapter):
        """The parameters that a chapter declares, by name."""
        source = self.source(chapter)
        try:
            return _declared(chapter, source.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise BookError(f"{source} cannot be read: {error}", "Save it as UTF-8") from None

    def presets(self):
        """Parameters by preset and chapter, each checked against what the chapter declares."""
        file = self.notebooks / "presets.yml"
        presets = _read_yaml(file)
        try:
            runs = [(p, *run) for p, chapters in presets.items() for run in chapters.items()]
            runs = [(preset, chapter, dict(values)) for preset, chapter, values in runs]
        except (AttributeError, TypeError, ValueError):
            raise BookError(
                f"{file} does not say which preset has which parameters",
                "Needed: PRESET: {CHAPTER: {NAME: VALUE}}, and {} where there are none",
            ) from None
        for preset, chapter, values in runs:
            try:
                self._check(chapter, values)
            except BookError as error:
                raise BookError(
                    f"preset {preset}: {error.wrong}", f"{error.todo}; to be mended in {file}"
                ) from None
        return presets

    def resolve(self, chapter, preset="default", texts=()):
        """Checked parameters of one run.

        Parameters
        ----------
        chapter, preset : str
            Names.
        texts : sequence of (str, str)
            Names and values as typed on the command line, each once; they go over the preset's.

        Returns
        -------
        dict
            Only what differs from the chapter's own defaults.

        Raises
        ------
        BookError
            Unknown chapter, preset or parameter, one that is given twice, or a value of another
            type.
        """
        declared, presets = self.parameters(chapter), self.presets()
        refuse_repeated(name for name, _ in texts)
        if preset not in presets:
            raise BookError(f"no preset {preset!r}", _choose("Presets", preset, list(presets)))
        values = dict(presets[preset].get(chapter, {}))
        for name, text in texts:
            values[name] = declared[name].parse(text) if name in declared else text
        self._check(chapter, values)
        return {name: value for name, value in values.items() if value != declared[name].default}

    def _check(self, chapter, values):
        declared = self.parameters(chapter)
        for name, value in values.items():
            if name not in declared:
                types = {p.name: p.type_ for p in declared.values()}
                raise BookError(
                    f"chapter {chapter} has no parameter {name!r}", _choose("It has", name, types)
                )
            declared[name].check(value)

    def repository(self):
        """Where the sources are on the web, without a slash at its end, or None.

        The environment variable TOPOBOOK_REPOSITORY says so, else the remote ``origin`` of git if
        it is on GitHub. Without it there are no buttons that lead there.
        """
        url = os.environ.get("TOPOBOOK_REPOSITORY", "")
        if not url and (self.root / ".git").exists() and shutil.which("git"):
            command = ["git", "-C", str(self.root), "remote", "get-url", "origin"]
            done = subprocess.run(command, capture_output=True, check=False)
            url = done.stdout.decode(errors="replace")
        found = re.search(r"github\.com[/:]([\w.-]+)/([\w.-]+?)(\.git)?/?$", url.strip())
        return f"https://github.com/{found[1]}/{found[2]}" if found else None

    def export_notebooks(self, folder):
        """Write every chapter as a notebook without outputs, as Binder and Colab open it.

        Parameters
        ----------
        folder : path
            Made when it is not there.

        Returns
        -------
        list of pathlib.Path
            The notebooks.
        """
        from nbformat.v4 import new_code_cell

        repository, written = self.repository(), []
        for chapter in self.chapters():
            notebook = self.read(chapter)
            if repository:
                install = (
                    "# Only where the package is not installed yet, as on Colab.\n"
                    "from importlib.util import find_spec\n\n"
                    'if find_spec("topo_utils") is None:\n'
                    f'    %pip install --quiet "topo_utils[book] @ git+{repository}"'
                )
                notebook.cells.insert(1, new_code_cell(install))
            for number, cell in enumerate(notebook.cells):
                cell["id"] = f"cell-{number}"  # else drawn at random, in every export anew
            written.append(Path(folder) / f"{chapter}.ipynb")
            _write_notebook(notebook, written[-1])
        return written

    # -----------------------------------------------------------------------------------------
    # Execution.

    def run(self, chapter, parameters, out, *, progress=True, scratch=None):
        """Execute a chapter; the notebook is written to `out` also when it fails.

        Until then, and for good when it is interrupted, `out` is what it was before.

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
        scratch : path, optional
            A folder for what is not finished, by default the system's for temporary files.

        Returns
        -------
        nbformat.NotebookNode
            The executed notebook.

        Raises
        ------
        BookError
            A cell failed, or the kernel died: the message has the chapter, the cell, its error and
            where the notebook is kept.
        """
        import papermill
        from papermill.exceptions import PapermillExecutionError
        from papermill.iorw import load_notebook_node
        from papermill.parameterize import parameterize_notebook
        from traitlets.config import Config

        _require("ipykernel")  # which runs in a process of its own

        # What it says is raised as well.
        logging.getLogger("papermill").setLevel(logging.CRITICAL)
        notebook = load_notebook_node(self.read(chapter))
        if parameters:
            notebook = parameterize_notebook(
                notebook, parameters, kernel_name="python3", language="python"
            )
            notebook.metadata.papermill["parameters"] = _strict(parameters)
        out = Path(out)
        _each(_refuse_undecoded, [str(out.absolute()), parameters])
        check_place(out)
        scratch = tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True)
        part = Path(scratch.name) / f"{chapter}.ipynb"  # papermill writes after every cell

        def keep():
            with replacing(out) as fresh:
                shutil.copyfile(part, fresh)

        start = time.perf_counter()
        try:
            executed = papermill.execute_notebook(
                notebook,
                # Whole, and no pattern: papermill fills in what stands in braces.
                str(part.absolute()).replace("{", "{{").replace("}", "}}"),
                cwd=str(self.notebooks),
                progress_bar=progress,
                kernel_name="python3",
                kernel_manager_class=own_kernel(scratch.name),
                # Of five seconds, torch would take half to be taken apart, and be stopped anyway.
                config=Config(KernelManager={"shutdown_wait_time": 1.0}),
                # It warns that it talks unencrypted to this very process, and calls it an error
                # that it is stopped when it is done: neither is one.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
        except PapermillExecutionError as error:
            where = f"cell [{error.exec_count}]" if error.exec_count else f"cell {error.cell_index}"
            first_line = error.source.strip().partition("\n")[0]
            # The end of the traceback: the error as it is printed, with its notes.
            told, name = _plain("\n".join(error.traceback)), f"{error.ename}: "
            begin = told.rfind(name + _plain(error.evalue))
            printed = told[begin:].removeprefix(name) if begin >= 0 else told.rpartition(name)[2]
            module = re.match(r"No module named '([\w.]+)'", error.evalue)
            install = how_to_install(module[1]) if module else None
            keep()
            raise BookError(
                f"chapter {chapter} failed in {where} ({first_line}): "
                + f"{name}{printed.strip()}".rstrip(": "),
                f"The executed notebook is kept in {out}: "
                + (install or "look there, and change the chapter or a parameter (topobook list)"),
            ) from error
        except RuntimeError as error:  # of the kernel, not of a cell
            keep()  # it is there since before the kernel was started
            raise BookError(
                f"chapter {chapter} failed{_last_cell(out)}: {error}",
                f"What was executed is kept in {out}: often memory ran out, so try fewer or "
                "smaller images, or more memory",
            ) from error
        finally:
            scratch.cleanup()
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
        digest = hashlib.sha256(_json(parameters, sort_keys=True).encode())
        digest.update(self.source(chapter).read_bytes())
        for file in sorted(Path(__file__).parent.rglob("*")):
            ours = ("book.py", "__main__.py", "files.py", "sweep.py", "links.py", "pdf.py")
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
        say = print if progress else lambda *_, **__: None
        self.check_config()
        runs = {chapter: self.resolve(chapter, preset) for chapter in self.chapters()}
        self.build.mkdir(parents=True, exist_ok=True)
        with locked(self.build, say):
            self._mend()
            return self._build(runs, preset, say, progress)

    def _build(self, runs, preset, say, progress):
        """Execute what has changed of these runs, and render the book."""
        import nbformat

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
        self._stage(source, executed, results, preset)
        say("rendering the pages")
        html = _render(source, self.build / "jupyter-book", self.pages())
        # With the pages, so that they are replaced together.
        _write(html / "results.json", _json(results, indent=2, ensure_ascii=False) + "\n")
        try:
            _copy_folder(html, self.build / "html")
        finally:
            self._mend()
        index = self.build / "html" / "index.html"
        say(f"The book is at {index}")
        return index

    def _mend(self):
        """Make the last good book and its results complete, whatever has stopped a build."""
        put_back(self.build / "html")
        results = self.build / "html" / "results.json"
        if results.is_file():
            _write(self.build / "results.json", results.read_text(encoding="utf-8"))

    def write_page(self, notebook, folder):
        """Render one executed notebook as a page that can be read on its own.

        References to other chapters become their titles.

        Parameters
        ----------
        notebook : nbformat.NotebookNode or path
            What `run` returned, or wrote.
        folder : path
            For the page and what it loads; replaced if it is there.

        Returns
        -------
        pathlib.Path
            Of the page.

        Raises
        ------
        BookError
            No notebook that a run of a chapter wrote, a folder that holds something else, or
            Jupyter Book failed.
        """
        import nbformat
        from nbformat.v4 import new_markdown_cell

        executed = copy.deepcopy(notebook) if isinstance(notebook, dict) else _read_run(notebook)
        folder = Path(folder)
        check_page_folder(folder)
        chapter = _chapter_of(executed)
        _insert_rerun_box(executed, self._rerun_box(chapter, executed))
        titles = {page: self._title(page) for page in self.pages()}
        for cell in executed.cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(
                    r"\{doc\}`(\w+)`", lambda m: f"*{titles.get(m[1], m[1])}*", cell.source
                )
        if (self.notebooks / "references.bib").is_file():
            cited = "```{bibliography}\n:filter: docname in docnames\n```"
            executed.cells.append(new_markdown_cell(cited))
        with tempfile.TemporaryDirectory() as scratch:
            files = self._common_files() | {
                "_toc.yml": f"format: jb-book\nroot: {chapter}\n",
                f"{chapter}.ipynb": nbformat.writes(executed),
            }
            _sync(Path(scratch) / "source", files)
            # Its references into the rest of the book lead nowhere here: no warnings are wanted.
            html = _render(Path(scratch) / "source", Path(scratch) / "out", [chapter], strict=False)
            _copy_folder(html, folder)
        return folder / f"{chapter}.html"

    def _stage(self, source, executed, results, preset):
        """What Jupyter Book reads."""
        import nbformat

        files = self._common_files()
        files["_toc.yml"] = (self.root / "_toc.yml").read_text(encoding="utf-8")
        for file in self.notebooks.glob("*.md"):
            files[file.name] = file.read_text(encoding="utf-8")
        for chapter, notebook in executed.items():
            files |= {f"_figures/{name}.svg": picture for name, picture in _figures(notebook)}
            _insert_rerun_box(notebook, self._rerun_box(chapter, notebook))
            files[f"{chapter}.ipynb"] = nbformat.writes(notebook)
        files["_findings.md"] = _findings_table(results)
        files["_build_report.md"] = _build_report(executed, preset)
        _sync(source, files)

    def _common_files(self):
        """Text of the files that a single page needs, too, by their place."""
        files = {"_config.yml": self._config()}
        for pattern in ("*.bib", "_static/*"):
            for file in self.notebooks.glob(pattern):
                place = file.relative_to(self.notebooks).as_posix()
                files[place] = file.read_text(encoding="utf-8")
        for chapter in self.chapters():
            files[f"_chapters/{chapter}.py"] = self.source(chapter).read_text(encoding="utf-8")
        for place, (package, name) in _SCRIPTS.items():
            if found := find_spec(package):
                script = Path(found.origin).parent / name
                files[f"_scripts/{place}"] = script.read_text(encoding="utf-8")
        return files

    def _config(self):
        """Text of the configuration for Jupyter Book."""
        config = _read_text(self.root / "_config.yml")
        repository = self.repository()
        return config + _repository_config(repository) if repository else config

    def check_config(self):
        """Refuse now a ``_config.yml`` with which Jupyter Book would render nothing later."""
        _require("jupyter_book")
        from jsonschema import ValidationError
        from jupyter_book.config import get_final_config, validate_yaml

        file = self.root / "_config.yml"
        config = _read_yaml(file, self._config())
        try:
            if not isinstance(config, dict):
                raise TypeError("it is empty" if config is None else f"{config!r} is no mapping")
            given = {name: value for name, value in config.items() if value is not None}
            validate_yaml(given, raise_on_errors=True)
            cli = {"latex_individualpages": False}
            final, _ = get_final_config(user_yaml=config, cli_config=cli, validate=False)
            if final["nb_execution_mode"] != "off":
                raise ValueError('it does not say execute: {execute_notebooks: "off"}')
        except Exception as error:  # of any kind, where Jupyter Book meets what it did not expect
            told = error.message if isinstance(error, ValidationError) else str(error)
            raise BookError(
                f"{file} is no configuration of this book: "
                + "; ".join(line.removeprefix("- ") for line in told.splitlines()),
                f"Mend {file.name}, or take it from a fresh clone of the project",
            ) from error

    def _title(self, page):
        """The first heading of a page."""
        if page in self.chapters():
            text = self.read(page).cells[0].source
        else:
            text = (self.notebooks / f"{page}.md").read_text(encoding="utf-8")
        title = re.search(r"^# (.*)$", text, re.MULTILINE)
        if title is None:
            raise BookError(f"page {page} has no title", "Begin it with a line such as # Title")
        return title[1]

    def _rerun_box(self, chapter, notebook):
        """Markdown that tells how to run an executed chapter again, from what it declares."""
        declared, used = self.parameters(chapter), _used_parameters(notebook)
        command = f"topobook run {chapter}"
        other = [p for p in declared.values() if used.get(p.name) != p.default]
        as_here = "".join(f" \\\n  -p {p.name} {_typed(used[p.name])}" for p in other)
        lines = [
            "::::{dropdown} Rerun this page with other parameters",
            ":class-container: rerun",
            "",
            "In a clone of the project, this command makes the page as it is here. Any parameter "
            "below can be set with `-p NAME VALUE`; numbers, verdict and text follow.",
            "",
            "```",
            command + as_here,
            "```",
            "",
        ]
        for p in declared.values():
            here = f", here `{used[p.name]!r}`" if p in other else ""
            meaning = f": {p.meaning}" if p.meaning else ""
            lines.append(
                f"- **`{p.name}`** ({p.accepted()}; default `{p.default!r}`{here}){meaning}"
            )
        lines += ["", f"Source: {{download}}`{chapter}.py <_chapters/{chapter}.py>`"]
        if repository := self.repository():
            lines[-1] += f", [in the repository]({repository}/blob/HEAD/notebooks/{chapter}.py)"
        return "\n".join([*lines, "::::"])


def compare_runs(a, b):
    """Which parameters and which numbers of two runs of a chapter differ.

    Parameters
    ----------
    a, b : path
        Executed notebooks.

    Returns
    -------
    dict of str to dict of str to tuple
        Under "parameters" and "results", by name, what `a` has and what `b` has; None where one
        has nothing of the name. Results are the verdict, the recorded numbers as text with their
        intervals, and the values in the prose.

    Raises
    ------
    BookError
        Not two executed notebooks of one chapter.
    """
    runs = [_read_run(path) for path in (a, b)]
    chapters = [_chapter_of(run) for run in runs]
    if chapters[0] != chapters[1]:
        raise BookError(
            f"{a} is a run of {chapters[0]}, {b} of {chapters[1]}",
            "Give two runs of one chapter",
        )

    def differences(of):
        first, second = map(of, runs)
        names = list(first | second)
        pairs = {name: (first.get(name), second.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    return {"parameters": differences(_used_parameters), "results": differences(_results)}


# ---------------------------------------------------------------------------------------------


def whole_path(path):
    """A path as it is meant where it is typed, for use in another folder."""
    return os.path.realpath(os.path.expanduser(path))


def whole_folder(path):
    """The name of a folder of images with its whole path: a chapter runs in another folder."""
    return f"folder:{path and whole_path(path)}"


def refuse_repeated(names):
    """Refuse a parameter that is given more than once, since only one value would count."""
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise BookError(
                f"parameter {name} is given more than once",
                "Give it once: -p NAME VALUE, or in a sweep --grid NAME VALUE VALUE ...",
            )


def check_page_folder(folder):
    """Refuse a folder that holds something else than a page that was rendered before."""
    if Path(folder).exists() and not (Path(folder) / "_static").is_dir():
        raise BookError(
            f"{folder} exists and is no rendered page",
            "Name another folder, which need not be there yet",
        )
    check_place(folder)


def _render(source, out, pages, strict=True):
    """Let Jupyter Book make HTML of a staged folder; returns where it is."""
    # Only what a build has completed is gone on from: else a page that was cut off, or one with a
    # warning, would not be looked at again.
    complete = out / "complete"
    if not complete.is_file():
        shutil.rmtree(out, ignore_errors=True)
    complete.unlink(missing_ok=True)
    done = _jupyter_book(source, out, ["-W", "-n", "--keep-going"] if strict else [])
    html = out / "_build" / "html"
    missing = [page for page in pages if not (html / f"{page}.html").is_file()]
    if done.returncode or missing:
        raise BookError(
            "Jupyter Book could not render the pages"
            + (f" (missing: {', '.join(missing)})\n" if missing else "\n")
            + "\n".join(_lines_that_tell(done)),
            "Mend these places in notebooks/, and type it again; the last good book is still there",
        )
    complete.touch()
    return html


def _jupyter_book(source, out, options):
    """Let Jupyter Book build something of a staged folder; returns the process."""
    _require("jupyter_book")
    command = [sys.executable, "-c", _JUPYTER_BOOK, "build", str(source)]
    command += ["--path-output", str(out), "-q", *options]
    said = {"encoding": "utf-8", "errors": "replace"}  # it names titles and paths, in any letters
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    stdin, ours = os.pipe()
    try:
        return subprocess.run(
            command, stdin=stdin, capture_output=True, check=False, env=environment, **said
        )
    finally:
        os.close(stdin)
        os.close(ours)


def _lines_that_tell(done):
    """The warnings and errors of a process of Jupyter Book, else the end of what it said."""
    lines = _plain(done.stdout + done.stderr).splitlines()
    return [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-15:]


@functools.cache  # presets are checked against all chapters, again and again
def _declared(chapter, text):
    """The parameters declared in the text of a chapter."""
    import jupytext

    return _assignments(chapter, jupytext.reads(text, fmt="py:percent"))


def _assignments(chapter, notebook):
    """The parameters declared in a notebook."""
    cells = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise BookError(
            f"chapter {chapter} has {len(cells)} cells tagged parameters",
            f'Needed in notebooks/{chapter}.py: one cell that begins # %% tags=["parameters"]',
        )
    (source,) = cells
    lines = source.splitlines()
    try:
        nodes = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    except SyntaxError as error:
        raise BookError(
            f"chapter {chapter}, cell of parameters: {error.msg}: {(error.text or '').strip()}",
            f"Mend it in notebooks/{chapter}.py",
        ) from None

    def comment_above(node):
        """The comment lines right above an assignment, joined."""
        start = node.lineno - 1
        first = start
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
        return " ".join(line.lstrip("# ") for line in lines[first:start])

    def default(node):
        try:
            return _literal(node.value)
        except (ValueError, TypeError):
            raise BookError(
                f"chapter {chapter}, cell of parameters: {ast.unparse(node)} has no plain default",
                f"Give it one in notebooks/{chapter}.py: a number, a text or a list, not computed",
            ) from None

    return {
        node.target.id: Parameter(
            node.target.id,
            ast.unparse(node.annotation),
            default(node),
            comment_above(node),
        )
        for node in nodes
    }


def _literal(node):
    """The value of a literal in which inf, nan, true, false and float("inf") may stand as well."""
    names = {name: float(name) for name in ("inf", "infinity", "nan")} | {
        "true": True,
        "false": False,
    }

    class Names(ast.NodeTransformer):
        def visit_Name(self, node):
            known = node.id.lower() in names
            return ast.Constant(names[node.id.lower()]) if known else node

        def visit_Call(self, node):
            plain = ast.unparse(node.func) == "float" and len(node.args) == 1
            return ast.Constant(float(ast.literal_eval(node.args[0]))) if plain else node

    return ast.literal_eval(Names().visit(node) if node else node)


def _each(change, value):
    """A value with its numbers and texts changed, which may stand in lists and dicts."""
    if isinstance(value, dict):
        return {key: _each(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each(change, item) for item in value]
    return change(value)


def _refuse_undecoded(item):
    """Refuse what no notebook can hold: a name whose bytes are no text here."""
    if isinstance(item, str) and re.search("[\ud800-\udfff]", item):
        raise BookError(
            f"{item!r} is not in UTF-8",
            "Rename the file or folder; in a terminal that is not in UTF-8 set PYTHONUTF8=1",
        )


def _strict(value):
    """A value as JSON takes it, which has no infinite numbers: they become texts."""
    return _each(lambda x: str(x) if isinstance(x, float) and not math.isfinite(x) else x, value)


def _json(value, **options):
    """JSON that every reader takes."""
    return json.dumps(_strict(value), allow_nan=False, **options)


def own_kernel(folder):
    """The class of a kernel that is the Python which executes this, with the same package.

    Neither the kernels that are installed count, nor what a user's IPython starts with: it finds
    an empty folder.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class OwnKernel(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _no_other(self):
            return KernelSpecManager(kernel_dirs=[])  # then it takes that of sys.executable

        async def start_kernel(self, **options):
            environment = os.environ | {"IPYTHONDIR": folder}
            for name in ("PYTHONSTARTUP", "PYTHONSAFEPATH"):  # what lies beside chapters is found
                environment.pop(name, None)
            package = Path(__file__).with_name("__init__.py")
            look = "import os, sys; from importlib.util import find_spec as find; "
            look += "sys.stdout.buffer.write(os.fsencode(find('topo_utils').origin))"
            done = subprocess.run([sys.executable, "-c", look], capture_output=True, check=False)
            if os.fsdecode(done.stdout) != str(package):  # as with python -m in another clone
                paths = [str(package.parents[1]), os.environ.get("PYTHONPATH")]
                environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
            await super().start_kernel(env=environment, **options)

    return OwnKernel


@functools.cache
def _environment():
    """Python and every installed package with its version.

    Not what else is on ``sys.path``: setuptools, once it is imported, puts its own copies of other
    packages there, and the same chapter would be another one before and after.
    """
    places = [*site.getsitepackages(), site.getusersitepackages()]
    found = {f"{d.name}=={d.version}" for d in distributions(path=places)}
    return [sys.version, *sorted(found)]


def _read_run(path):
    """An executed notebook, as `Project.run` wrote it."""
    import nbformat

    todo = "Give a notebook that topobook run wrote"
    unread = (OSError, ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError)
    try:
        notebook = nbformat.read(path, as_version=4)
    except (*unread, RecursionError) as error:
        raise BookError(f"{path} cannot be read: {error}", todo) from None
    try:  # what is asked of it later
        _chapter_of(notebook), _used_parameters(notebook), _results(notebook)
        notebook.metadata["topobook"]["key"]
    except (*unread, BookError):
        raise BookError(f"{path} is no finished run of a chapter", todo) from None
    return notebook


def _last_cell(path):
    """Which cell was begun last in a notebook of papermill: a text, empty if none was."""
    import nbformat

    cells = enumerate(nbformat.read(path, as_version=4).cells)
    begun = [(i, c) for i, c in cells if c.metadata.get("papermill", {}).get("start_time")]
    return f" in cell {begun[-1][0]} ({begun[-1][1].source.partition(chr(10))[0]})" if begun else ""


def _chapter_of(notebook):
    return Path(notebook.metadata.papermill.input_path).stem


def _used_parameters(notebook):
    """The value that each parameter had in an executed notebook."""
    declared = _assignments(_chapter_of(notebook), notebook)
    defaults = {name: parameter.default for name, parameter in declared.items()}
    given = notebook.metadata.papermill.parameters.items()
    return defaults | {n: declared[n].restore(v) if n in declared else v for n, v in given}


def _results(notebook):
    """Verdict, recorded numbers and glued values of an executed notebook, as text."""
    results = {}
    if finding := _finding(notebook):
        results["verdict"] = finding["verdict"]
        results |= {name: format_number(n) for name, n in finding["numbers"].items()}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                data = output["data"]
                text = data.get("text/plain") or data["application/papermill.record/text/plain"]
                results.setdefault(name, "".join(text))
    return results


def _typed(value):
    """A parameter's value as it is typed on the command line."""
    text = value if isinstance(value, str) else repr(value)
    if not isinstance(value, str) and '"' not in text:
        text = text.replace("'", '"')  # so that a list is '["a"]' in the shell
    return shlex.quote(text)


def _insert_rerun_box(notebook, box):
    """Put the box right after the parameters, or after the values that were injected there."""
    from nbformat.v4 import new_markdown_cell

    tagged = [
        i
        for i, cell in enumerate(notebook.cells)
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", []))
    ]
    notebook.cells.insert(max(tagged) + 1, new_markdown_cell(box, id="rerun"))


def _repository_config(repository):
    """What goes into Jupyter Book's configuration when it is known where the sources are."""
    return f"""
repository:
  url: {repository}
  branch: {PUBLISHED_BRANCH}
  path_to_book: notebooks

launch_buttons:
  notebook_interface: jupyterlab
  binderhub_url: https://mybinder.org
  colab_url: https://colab.research.google.com
"""


def _build_report(executed, preset):
    """Markdown with the run times and the versions of a build."""
    lines = [
        f"The chapters ran with the preset `{preset}`, on {platform.system()} "
        f"({platform.machine()}) with {os.cpu_count()} processors. A chapter for which nothing has "
        "changed is not run again: its time is that of its last run.",
        "",
        "## Run times",
        "",
        "| chapter | seconds | run finished (UTC) |",
        "|---|---:|---|",
    ]
    total = 0.0
    for chapter, notebook in executed.items():
        seconds = notebook.metadata["topobook"]["seconds"]
        total += seconds
        ended = notebook.metadata.papermill["end_time"][:16].replace("T", " ")
        lines.append(f"| [](./{chapter}.ipynb) | {seconds:.1f} | {ended} |")
    lines += [f"| all | {total:.1f} | |", "", "## Versions", "", "| package | version |"]
    lines += ["|---|---|", f"| Python | {platform.python_version()} |"]
    lines += [f"| {name} | {number} |" for name, number in _dependencies().items()]
    return "\n".join(lines) + "\n"


def _dependencies():
    """The packages that the project names as needed for the book, with their versions."""
    found = {}
    for requirement in requires("topo_utils") or []:
        name = re.match(r"[\w.-]+", requirement)[0]
        wanted = "extra ==" not in requirement or re.search(r"extra == .book.", requirement)
        if wanted and name != "topo_utils":
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


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


def _read_text(path):
    """The text of a file of the project's own."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _read_yaml(path, text=None):
    """What a file says; `text` is taken for what stands in it."""
    import yaml

    try:
        return yaml.safe_load(_read_text(path) if text is None else text)
    except yaml.YAMLError as error:
        raise _unreadable(path, error) from None


def _unreadable(path, error):
    return BookError(
        f"{path} cannot be read: {' '.join(str(error).split())}",
        f"Mend {path.name}, or take it from a fresh clone of the project",
    )


def _choose(what, name, choices):
    """What can be given in the place of a wrong name: a list, or a dict with their types."""
    near = difflib.get_close_matches(str(name), choices, 1)
    if isinstance(choices, dict):
        choices = [f"{choice} ({type_})" for choice, type_ in choices.items()]
    return (f"Did you mean {near[0]}? " if near else "") + f"{what}: {', '.join(choices)}"


def _require(module):
    """Raise now what a process of its own would raise for want of this module."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _write(path, text):
    """Write a text file, whole or not at all, unless it says the same already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _write_notebook(notebook, path):
    import nbformat

    _write(path, nbformat.writes(notebook))


def _sync(folder, files):
    """Make a folder hold these texts by their place, and nothing else.

    What has not changed is not written: Jupyter Book tells by the times what to render again.
    """
    for file in list(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in files:
            file.unlink()
    for place, text in files.items():
        _write(folder / place, text)


def _copy_folder(new, old):
    """Put a copy of folder `new` in the place of `old`."""
    with replacing(old) as part:
        shutil.copytree(new, part)
