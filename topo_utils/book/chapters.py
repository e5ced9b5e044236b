"""Chapters, the parameters that they declare, and the presets.

A chapter is a py:percent file in ``notebooks/`` with one cell tagged `parameters`: assignments with
a type, a plain default, and the meaning in the comment above. The functions take a project: the
folders ``root``, ``notebooks`` and ``build`` (see `topo_utils.book.Project`).
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import functools
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from topo_utils.book.errors import BookError, UsageError
from topo_utils.files import replacing


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


# ---------------------------------------------------------------------------------------------
# The pages of the book.


def page_names(project):
    """Names of all pages in the order of ``_toc.yml``."""
    file = project.root / "_toc.yml"
    toc = read_yaml(file)
    try:
        parts = toc.get("parts", [toc])
        pages = [toc["root"]] + [page["file"] for part in parts for page in part["chapters"]]
    except (AttributeError, KeyError, TypeError) as error:
        missing = f" ({error} is missing)" if isinstance(error, KeyError) else ""
        raise BookError(
            f"{file} is no table of contents{missing}",
            "Needed: root: PAGE, and chapters: with a list of - file: PAGE, or parts: of these",
        ) from None
    for page in pages:
        if not any((project.notebooks / f"{page}{end}").is_file() for end in (".md", ".py")):
            raise BookError(
                f"{file} names the page {page}, which is not there",
                f"Write notebooks/{page}.md or notebooks/{page}.py, or take the page out",
            )
        if pages.count(page) > 1:
            raise BookError(
                f"{file} names the page {page} more than once",
                "Leave one of these lines, and take the others out",
            )
    return pages


def chapter_names(project):
    """Names of the pages that are executed: those written as py:percent files."""
    return [page for page in page_names(project) if (project.notebooks / f"{page}.py").is_file()]


def source(project, chapter):
    """Path of a chapter's source."""
    names = chapter_names(project)
    if chapter not in names:
        raise UsageError(f"no chapter {chapter!r}", _suggest("Chapters", chapter, names))
    return project.notebooks / f"{chapter}.py"


def read_chapter(project, chapter):
    """A chapter as a notebook without outputs."""
    import jupytext

    notebook = jupytext.read(source(project, chapter), fmt="py:percent")
    # Whatever its header names: it is executed by the Python that executes this.
    python = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata["kernelspec"] = python
    return notebook


def title(project, page):
    """The first heading of a page."""
    path = project.notebooks / f"{page}.md"
    is_prose = path.is_file()
    text = read_text(path if is_prose else source(project, page))
    found = re.search(r"^# (.*)$" if is_prose else r"^# # (.*)$", text, re.MULTILINE)
    if found is None:
        raise BookError(f"page {page} has no title", "Begin it with a line such as # Title")
    return found[1]


def repository(project):
    """Where the sources are on the web, without a slash at its end, or None.

    The environment variable TOPOBOOK_REPOSITORY says so, else the remote ``origin`` of git if it is
    on GitHub. Without it no buttons lead there.
    """
    url = os.environ.get("TOPOBOOK_REPOSITORY", "")
    if not url and (project.root / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(project.root), "remote", "get-url", "origin"]
        done = subprocess.run(command, capture_output=True, check=False)
        url = done.stdout.decode(errors="replace")
    found = re.search(r"github\.com[/:]([\w.-]+)/([\w.-]+?)(\.git)?/?$", url.strip())
    return f"https://github.com/{found[1]}/{found[2]}" if found else None


def export_notebooks(project, folder):
    """Write every chapter as a notebook without outputs, as Binder and Colab open it.

    Parameters
    ----------
    folder : path
        Made if it is not there.

    Returns
    -------
    list of pathlib.Path
        The notebooks.
    """
    from nbformat.v4 import new_code_cell

    url, written = repository(project), []
    for chapter in chapter_names(project):
        notebook = read_chapter(project, chapter)
        if url:
            install = (
                "# Only where the package is not installed yet, as on Colab.\n"
                "from importlib.util import find_spec\n\n"
                'if find_spec("topo_utils") is None:\n'
                f'    %pip install --quiet "topo_utils[book] @ git+{url}"'
            )
            notebook.cells.insert(1, new_code_cell(install))
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # else drawn at random, new in every export
        written.append(Path(folder) / f"{chapter}.ipynb")
        write_notebook(notebook, written[-1])
    return written


def new_chapter(project, name, heading=None):
    """Write a chapter that runs and has a finding, and put it at the end of ``_toc.yml``.

    Parameters
    ----------
    name : str
        Of the chapter: letters, digits and underscores.
    heading : str, optional
        Its title; by default made of the name.

    Returns
    -------
    pathlib.Path
        Of its source.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is no name for a chapter", "Accepted: letters a-z, digits, _")
    file, toc = project.notebooks / f"{name}.py", project.root / "_toc.yml"
    if file.exists() or name in page_names(project):
        raise UsageError(f"there is a page {name} already", "Choose a different name")
    text = read_text(Path(__file__).with_name("chapter.py.txt"))
    heading = heading or name.replace("_", " ").capitalize()
    write_whole(file, text.replace("TITLE", heading).replace("NAME", name.replace("_", "-")))
    indent = re.search(r"^( *)- file:.*\Z", read_text(toc).rstrip(), re.MULTILINE)[1]
    write_whole(toc, f"{read_text(toc).rstrip()}\n{indent}- file: {name}\n")
    return file


# ---------------------------------------------------------------------------------------------
# Parameters.


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

    def accepted(self):
        """The declared type in words."""
        choices = re.fullmatch(r"Literal\[(.*)\]", self.annotation)
        return f"one of `{choices[1]}`" if choices else f"`{self.type_}`"

    def check(self, value, typed=False):
        """`value` if it is of the declared type, else a `UsageError`.

        Paths that are `typed` on the command line are made whole: a chapter runs elsewhere.
        """
        import pydantic

        def refuse(why=""):
            raise UsageError(
                f"parameter {self.name} is {value!r}{why}",
                f"Accepted: {self.type_} ({self.meaning})",
            ) from None

        def path(text, about):
            return whole_path(text) if about.context else text

        def leaf(item):
            if item != item:
                refuse(", which is no number")
            if isinstance(item, int) and abs(item) >= 2**63:
                refuse(", which is too large")
            if typed and isinstance(item, str) and item.startswith("folder:"):
                return whole_folder(item.removeprefix("folder:"))
            return item

        names = {
            "AtLeast": AtLeast,
            "Literal": Literal,
            "NonEmpty": NonEmpty,
            "Path": Annotated[str, pydantic.AfterValidator(path)],
        }
        try:
            # The annotation is source code of this project, written in these few names.
            adapter = pydantic.TypeAdapter(eval(self.annotation, names))
            return each(leaf, adapter.validate_python(value, strict=True, context=typed))
        except pydantic.ValidationError:
            refuse()
        except (NameError, TypeError, AttributeError, pydantic.PydanticUserError):
            raise BookError(
                f"parameter {self.name} is declared as {self.annotation}, which is not understood",
                "Declare it in the chapter with bool, int, AtLeast[0], float, str, Path, list, "
                "NonEmpty[str], None and Literal",
            ) from None

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
        """A value as it was before `as_json` made it fit for JSON."""
        try:
            return self.check(value)
        except BookError:
            numbers = {str(number): number for number in (math.inf, -math.inf, math.nan)}
            return each(lambda item: numbers.get(item, item), value)


def parameters(project, chapter):
    """The parameters that a chapter declares, by name."""
    file = source(project, chapter)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BookError(f"{file} cannot be read: {error}", "Save it as UTF-8") from None
    # Not through jupytext, which takes a second to be imported.
    cell = r"^# %%[^\n]*\btags=\[[^\n\]]*\"parameters\"[^\n]*\n(.*?)(?=^# %%|\Z)"
    cells = re.findall(cell, text, re.MULTILINE | re.DOTALL)
    return dict(_declared(chapter, tuple(cells)))


def declared_in(chapter, notebook):
    """The parameters declared in a chapter's notebook, by name."""
    cells = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    return dict(_declared(chapter, tuple(cells)))


@functools.cache  # presets are checked against all chapters, again and again
def _declared(chapter, cells):
    if len(cells) != 1:
        raise BookError(
            f"chapter {chapter} has {len(cells)} cells tagged parameters",
            f'Needed in notebooks/{chapter}.py: one cell that begins # %% tags=["parameters"]',
        )
    lines = cells[0].splitlines()
    try:
        nodes = [node for node in ast.parse(cells[0]).body if isinstance(node, ast.AnnAssign)]
    except SyntaxError as error:
        raise BookError(
            f"chapter {chapter}, cell of parameters: {error.msg}: {(error.text or '').strip()}",
            f"Mend it in notebooks/{chapter}.py",
        ) from None
    found = {}
    for node in nodes:
        start = first = node.lineno - 1
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
        meaning = " ".join(line.lstrip("# ") for line in lines[first:start])
        try:
            default = _literal(node.value)
        except (ValueError, TypeError):
            raise BookError(
                f"chapter {chapter}, cell of parameters: {ast.unparse(node)} has no plain default",
                f"Give it one in notebooks/{chapter}.py: a number, a text or a list, not computed",
            ) from None
        name = node.target.id
        found[name] = Parameter(name, ast.unparse(node.annotation), default, meaning)
    return found


class _Names(ast.NodeTransformer):
    """Puts values in the place of the names inf, nan, true and false, and of float("inf")."""

    values: dict = {name: float(name) for name in ("inf", "infinity", "nan")}  # noqa: RUF012
    values |= {"true": True, "false": False}

    def visit_Name(self, node):
        name = node.id.lower()
        return ast.Constant(self.values[name]) if name in self.values else node

    def visit_Call(self, node):
        plain = ast.unparse(node.func) == "float" and len(node.args) == 1
        return ast.Constant(float(ast.literal_eval(node.args[0]))) if plain else node


def _literal(node):
    return ast.literal_eval(_Names().visit(node) if node else node)


def presets(project):
    """Parameters by preset and chapter, each checked against what the chapter declares."""
    file = project.notebooks / "presets.yml"
    found = read_yaml(file)
    try:
        runs = [(p, *run) for p, chapters in found.items() for run in chapters.items()]
        runs = [(preset, chapter, dict(values)) for preset, chapter, values in runs]
    except (AttributeError, TypeError, ValueError):
        raise BookError(
            f"{file} does not say which preset has which parameters",
            "Needed: PRESET: {CHAPTER: {NAME: VALUE}}, and {} where there are none",
        ) from None
    for preset, chapter, values in runs:
        try:
            _check(project, chapter, values)
        except BookError as error:
            todo = f"{error.todo}; to be mended in {file}"
            raise BookError(f"preset {preset}: {error.wrong}", todo) from None
    return found


def resolve(project, chapter, preset="default", texts=()):
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
        Unknown chapter, preset or parameter, one that is given twice, or a value of the wrong type.
    """
    declared, known = parameters(project, chapter), presets(project)
    refuse_repeated(name for name, _ in texts)
    if preset not in known:
        raise UsageError(f"no preset {preset!r}", _suggest("Presets", preset, list(known)))
    values = dict(known[preset].get(chapter, {}))
    for name, text in texts:
        values[name] = declared[name].parse(text) if name in declared else text
    _check(project, chapter, values)
    return {name: value for name, value in values.items() if value != declared[name].default}


def _check(project, chapter, values):
    declared = parameters(project, chapter)
    for name, value in values.items():
        if name not in declared:
            types = {p.name: p.type_ for p in declared.values()}
            raise UsageError(
                f"chapter {chapter} has no parameter {name!r}", _suggest("It has", name, types)
            )
        declared[name].check(value)


def refuse_repeated(names):
    """Refuse a parameter that is given more than once, since only one value would count."""
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"parameter {name} is given more than once",
                "Give it once: -p NAME VALUE, or in a sweep --grid NAME VALUE VALUE ...",
            )


def _suggest(what, name, choices):
    """What can be given in the place of a wrong name: a list, or a dict with their types."""
    near = difflib.get_close_matches(str(name), choices, 1)
    if isinstance(choices, dict):
        choices = [f"{choice} ({type_})" for choice, type_ in choices.items()]
    return (f"Did you mean {near[0]}? " if near else "") + f"{what}: {', '.join(choices)}"


def whole_path(path):
    """A path as it is meant where it is typed, for use in another folder."""
    return os.path.realpath(os.path.expanduser(path))


def whole_folder(path):
    """The name of a folder of images with its whole path: a chapter runs in another folder."""
    return f"folder:{whole_path(path)}"


# ---------------------------------------------------------------------------------------------
# Files.


def each(change, value):
    """A value with its numbers and texts changed, which may stand in lists and dicts."""
    if isinstance(value, dict):
        return {key: each(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [each(change, item) for item in value]
    return change(value)


def finite(value):
    """A value as JSON takes it, which has no infinite numbers: they become texts."""
    return each(lambda x: str(x) if isinstance(x, float) and not math.isfinite(x) else x, value)


def as_json(value, **options):
    """JSON that every reader takes."""
    return json.dumps(finite(value), allow_nan=False, **options)


def refuse_undecoded(item):
    """Refuse what no notebook can hold: a name whose bytes are no text here."""
    if isinstance(item, str) and re.search("[\ud800-\udfff]", item):
        raise UsageError(
            f"{item!r} is not in UTF-8",
            "Rename the file or folder; in a terminal that is not in UTF-8 set PYTHONUTF8=1",
        )


def read_text(path):
    """The text of a file of the project's own."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def read_yaml(path, text=None):
    """What a file says; `text` is taken for what stands in it."""
    import yaml

    try:
        return copy.deepcopy(_loaded(read_text(path) if text is None else text))
    except yaml.YAMLError as error:
        raise _unreadable(path, error) from None


@functools.lru_cache(maxsize=8)  # the table of contents is asked for again and again
def _loaded(text):
    import yaml

    return yaml.safe_load(text)


def _unreadable(path, error):
    return BookError(
        f"{path} cannot be read: {' '.join(str(error).split())}",
        f"Mend {path.name}, or take it from a fresh clone of the project",
    )


def write_whole(path, text):
    """Write a text file, whole or not at all, unless it says the same already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_notebook(notebook, path):
    """Write a notebook, whole or not at all."""
    import nbformat

    write_whole(path, nbformat.writes(notebook))
