"""The press of the book: chapters run headlessly, and the pages made of them.

A chapter imports `record_finding` and the types of its parameters from here; the command line
works with a `Project`. Everything made lies under ``_build/``:

    executed/CHAPTER.ipynb    the last complete run of each chapter
    html/index.html           the last good book
    book.pdf                  the same, printed
    results.json              the verdict of every finding in it
    failed/CHAPTER.ipynb      a chapter that stopped, for inspection
    runs/CHAPTER.ipynb        single runs with other parameters
    source/, jupyter-book/    what Jupyter Book reads and writes
"""

import os
from pathlib import Path

from topo_utils.book import chapters as _chapters
from topo_utils.book import pages as _pages
from topo_utils.book import run as _run
from topo_utils.book.chapters import AtLeast, NonEmpty, Parameter
from topo_utils.book.errors import BookError, UsageError
from topo_utils.book.findings import VERDICTS, compare_runs, fill, place, record_finding

__all__ = [
    "VERDICTS",
    "AtLeast",
    "BookError",
    "NonEmpty",
    "Parameter",
    "Project",
    "UsageError",
    "compare_runs",
    "fill",
    "place",
    "record_finding",
]


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
        here, own = Path(root or Path.cwd()), Path(__file__).parents[2]
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

    pages = _chapters.page_names
    chapters = _chapters.chapter_names
    source = _chapters.source
    read = _chapters.read_chapter
    title = _chapters.title
    parameters = _chapters.parameters
    presets = _chapters.presets
    resolve = _chapters.resolve
    repository = _chapters.repository
    export_notebooks = _chapters.export_notebooks
    new_chapter = _chapters.new_chapter
    run = _run.run
    run_once = _run.run_once
    build_book = _run.build_book
    check_config = _pages.check_config
    write_page = _pages.write_page
