"""Execute a chapter, unless what it would give is known already, and build the book."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from topo_utils.book import chapters, pages
from topo_utils.book.errors import BookError, how_to_install, require
from topo_utils.book.findings import finding
from topo_utils.files import check_place, locked, put_back, replacing
from topo_utils.store import source_digest


def key(project, chapter, parameters):
    """Digest of all that a chapter's result follows from: if it is the same, so is the run."""
    digest = hashlib.sha256(chapters.as_json(parameters, sort_keys=True).encode())
    digest.update(chapters.source(project, chapter).read_bytes())
    digest.update(source_digest().encode())
    package = Path(__file__).parents[1]
    data = sorted(file for file in package.rglob("*") if file.suffix in (".csv", ".json"))
    for file in (Path(__file__).with_name("findings.py"), *data):  # what shows the result, too
        digest.update(file.read_bytes())
    digest.update("\n".join(_environment()).encode())
    return digest.hexdigest()


@functools.cache
def _environment():
    """Python and every installed package with its version.

    Not what else is on ``sys.path``: setuptools, once it is imported, puts its own copies of other
    packages there, and the same chapter would have two keys, one before and one after.
    """
    places = [*site.getsitepackages(), site.getusersitepackages()]
    found = {f"{d.name}=={d.version}" for d in distributions(path=places)}
    return [sys.version, *sorted(found)]


def run_once(project, chapter, parameters, out, *, force=False, **options):
    """The executed notebook at `out`: the one that is there if nothing changed, else a new run.

    Parameters are those of `run`; `force` executes it in any case. Returns the notebook, and
    whether it was executed now.
    """
    import nbformat

    out = Path(out)
    if out.is_file() and not force:
        try:
            notebook = nbformat.read(out, as_version=4)
            known = notebook.metadata["topobook"]["key"]
        except Exception:  # of whatever it holds in the place of a run
            known = None
        if known == key(project, chapter, parameters):
            return notebook, False
    return project.run(chapter, parameters, out, **options), True


def run(project, chapter, parameters, out, *, progress=True, scratch=None):
    """Execute a chapter.

    Parameters
    ----------
    chapter : str
        Name.
    parameters : dict
        As `resolve` gives them.
    out : path
        Of the executed notebook. If the chapter fails or is stopped, what was there stays.
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
        where the notebook is kept: in the folder ``failed`` of the build.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook
    from traitlets.config import Config

    require("ipykernel")  # which runs in a process of its own
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it says is raised as well
    known_as = key(project, chapter, parameters)  # before it runs: it may be edited meanwhile
    notebook = load_notebook_node(chapters.read_chapter(project, chapter))
    if parameters:
        notebook = parameterize_notebook(
            notebook, parameters, kernel_name="python3", language="python"
        )
        notebook.metadata.papermill["parameters"] = chapters.finite(parameters)
    out = Path(out)
    chapters.each(chapters.refuse_undecoded, [str(out.absolute()), parameters])
    check_place(out)
    failed = project.build / "failed" / out.name
    scratch = tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True)
    part = Path(scratch.name) / f"{chapter}.ipynb"  # papermill writes after every cell

    def keep():
        with replacing(failed) as fresh:
            shutil.copyfile(part, fresh)

    start = time.perf_counter()
    try:
        executed = papermill.execute_notebook(
            notebook,
            # Whole, and no pattern: papermill fills in what stands in braces.
            str(part.absolute()).replace("{", "{{").replace("}", "}}"),
            cwd=str(project.notebooks),
            progress_bar=progress,
            kernel_name="python3",
            kernel_manager_class=own_kernel(scratch.name),
            # Of five seconds, torch would take half to be taken apart, and be stopped anyway.
            config=Config(KernelManager={"shutdown_wait_time": 1.0}),
            # It warns that it talks unencrypted to this very process, and calls it an error that
            # it is stopped when it is done: neither is one.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        keep()
        raise _of_cell(chapter, error, failed) from error
    except RuntimeError as error:  # of the kernel, not of a cell
        keep()  # it is there since before the kernel was started
        raise BookError(
            f"chapter {chapter} failed{_last_cell(failed)}: {error}",
            f"What was executed is kept in {failed}: often memory ran out, so try fewer or "
            "smaller images, or more memory",
        ) from error
    finally:
        scratch.cleanup()
    executed.metadata.papermill["input_path"] = f"notebooks/{chapter}.py"
    executed.metadata.papermill["output_path"] = out.name
    executed.metadata["topobook"] = {
        "key": known_as,
        "seconds": round(time.perf_counter() - start, 1),
    }
    chapters.write_notebook(executed, out)
    return executed


def _of_cell(chapter, error, kept):
    """The error of a cell as it was printed, with its notes, as a `BookError`."""
    where = f"cell [{error.exec_count}]" if error.exec_count else f"cell {error.cell_index}"
    first_line = error.source.strip().partition("\n")[0]
    told, name = pages.plain("\n".join(error.traceback)), f"{error.ename}: "
    begin = told.rfind(name + pages.plain(error.evalue))
    printed = told[begin:].removeprefix(name) if begin >= 0 else told.rpartition(name)[2]
    module = re.match(r"No module named '([\w.]+)'", error.evalue)
    install = how_to_install(module[1]) if module else None
    return BookError(
        f"chapter {chapter} failed in {where} ({first_line}): "
        + f"{name}{printed.strip()}".rstrip(": "),
        f"The executed notebook is kept in {kept}: "
        + (install or "look there, and change the chapter or a parameter (topobook list)"),
    )


def _last_cell(path):
    """Which cell was begun last in a notebook of papermill: a text, empty if none was."""
    import nbformat

    cells = enumerate(nbformat.read(path, as_version=4).cells)
    begun = [(i, c) for i, c in cells if c.metadata.get("papermill", {}).get("start_time")]
    return f" in cell {begun[-1][0]} ({begun[-1][1].source.partition(chr(10))[0]})" if begun else ""


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
            package = Path(__file__).parents[1] / "__init__.py"
            look = "import os, sys; from importlib.util import find_spec as find; "
            look += "sys.stdout.buffer.write(os.fsencode(find('topo_utils').origin))"
            done = subprocess.run([sys.executable, "-c", look], capture_output=True, check=False)
            if os.fsdecode(done.stdout) != str(package):  # as with python -m in another clone
                paths = [str(package.parents[1]), os.environ.get("PYTHONPATH")]
                environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
            await super().start_kernel(env=environment, **options)

    return OwnKernel


# ---------------------------------------------------------------------------------------------
# The book.


def build_book(project, preset="default", *, progress=True, force=False):
    """Execute all chapters and render the book.

    A chapter whose source, parameters, package and environment are those of its last execution is
    not executed again. The last good book stays in place until the new one is complete.

    Parameters
    ----------
    preset : str
        Which parameters the chapters get.
    progress : bool
        Whether to say on stdout what is done.
    force : bool
        Execute all chapters, also those for which nothing changed.

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
    pages.check_config(project)
    names = chapters.chapter_names(project)
    runs = {chapter: chapters.resolve(project, chapter, preset) for chapter in names}
    project.build.mkdir(parents=True, exist_ok=True)
    with locked(project.build, say):
        complete_last(project)
        executed = {}
        for chapter, parameters in runs.items():
            out = project.build / "executed" / f"{chapter}.ipynb"
            notebook, fresh = run_once(
                project, chapter, parameters, out, force=force, progress=progress
            )
            executed[chapter] = notebook
            seconds = notebook.metadata["topobook"]["seconds"]
            say(f"{chapter}: executed in {seconds} s" if fresh else f"{chapter}: unchanged")
            (project.build / "failed" / out.name).unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or holds what a single run left
            (project.build / "failed").rmdir()

        results = {chapter: found for chapter, nb in executed.items() if (found := finding(nb))}
        say("rendering the pages")
        html = pages.render_book(project, executed, results, preset)
        # With the pages, so that they are replaced together.
        text = chapters.as_json(results, indent=2, ensure_ascii=False) + "\n"
        chapters.write_whole(html / "results.json", text)
        try:
            pages.copy_folder(html, project.build / "html")
        finally:
            complete_last(project)
    index = project.build / "html" / "index.html"
    say(f"The book is at {index}")
    return index


def complete_last(project):
    """Make the last good book and its results complete, whatever has stopped a build."""
    put_back(project.build / "html")
    results = project.build / "html" / "results.json"
    if results.is_file():
        chapters.write_whole(project.build / "results.json", results.read_text(encoding="utf-8"))
