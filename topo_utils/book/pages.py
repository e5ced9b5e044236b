"""Executed notebooks as pages: what is added to them, and Jupyter Book that renders them.

What a page needs beyond its text is added when it is staged: the box "Rerun this page", the
findings, versions and run times, and the scripts that draw formulas and moving pictures, copied
from the packages that carry them so that no page asks another site for anything.
"""

from __future__ import annotations

import copy
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from topo_utils.book import chapters, findings
from topo_utils.book.errors import BookError, UsageError, require
from topo_utils.files import check_place, replacing

#: Scripts that the pages load, by their place in the book: the package and the file in it.
_SCRIPTS = {
    "mathjax/tex-svg.js": ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js"),
    "plotly/plotly.min.js": ("plotly", "package_data/plotly.min.js"),
}

#: The branch on which the chapters lie as notebooks, where the launch buttons lead.
PUBLISHED_BRANCH = "published"

_LAUNCH_BUTTONS = """
repository:
  url: {}
  branch: {}
  path_to_book: notebooks

launch_buttons:
  notebook_interface: jupyterlab
  binderhub_url: https://mybinder.org
  colab_url: https://colab.research.google.com
"""

#: Jupyter Book in a process that ends when this one does, be it killed: then its stdin is closed.
_JUPYTER_BOOK = """
import os, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
from jupyter_book.cli.main import main
main()
"""


def render_book(project, executed, results, preset):
    """Render all pages from executed notebooks and findings by chapter; the folder of the HTML."""
    import nbformat

    files = _common_files(project)
    files["_toc.yml"] = chapters.read_text(project.root / "_toc.yml")
    for file in project.notebooks.glob("*.md"):
        files[file.name] = file.read_text(encoding="utf-8")
    for chapter, notebook in executed.items():
        for figure, output in findings.figures(notebook):
            files[f"_figures/{figure['name']}.svg"] = "".join(output.data["image/svg+xml"])
        _complete(project, chapter, notebook)
        files[f"{chapter}.ipynb"] = nbformat.writes(notebook)
    files["_findings.md"] = _findings_table(results)
    files["_build_report.md"] = _build_report(executed, preset)
    sync(project.build / "source", files)
    names = chapters.page_names(project)
    return render(project.build / "source", project.build / "jupyter-book", names)


def write_page(project, notebook, folder):
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
        No notebook that a run of a chapter wrote, a folder that holds something else, or Jupyter
        Book failed.
    """
    import nbformat
    from nbformat.v4 import new_markdown_cell

    given = isinstance(notebook, dict)
    executed = copy.deepcopy(notebook) if given else findings.read_run(notebook)
    folder = Path(folder)
    check_page_folder(folder)
    chapter = findings.chapter_of(executed)
    _complete(project, chapter, executed)
    titles = {page: chapters.title(project, page) for page in chapters.page_names(project)}

    def by_title(text):
        return re.sub(r"\{doc\}`(\w+)`", lambda m: f"*{titles.get(m[1], m[1])}*", text)

    for cell in executed.cells:
        if cell.cell_type == "markdown":
            cell.source = by_title(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = by_title("".join(output.data["text/markdown"]))
    if (project.notebooks / "references.bib").is_file():
        cited = "```{bibliography}\n:filter: docname in docnames\n```"
        executed.cells.append(new_markdown_cell(cited))
    with tempfile.TemporaryDirectory() as scratch:
        files = _common_files(project) | {
            "_toc.yml": f"format: jb-book\nroot: {chapter}\n",
            f"{chapter}.ipynb": nbformat.writes(executed),
        }
        sync(Path(scratch) / "source", files)
        # Its references into the rest of the book lead nowhere here: no warnings are wanted.
        html = render(Path(scratch) / "source", Path(scratch) / "out", [chapter], strict=False)
        copy_folder(html, folder)
    return folder / f"{chapter}.html"


def check_page_folder(folder):
    """Refuse a folder that holds something else than a page that was rendered before."""
    if Path(folder).exists() and not (Path(folder) / "_static").is_dir():
        raise UsageError(
            f"{folder} exists and is no rendered page",
            "Name another folder, which need not be there yet",
        )
    check_place(folder)


def check_config(project):
    """Refuse now a ``_config.yml`` with which Jupyter Book would render nothing later."""
    require("jupyter_book")
    from jsonschema import ValidationError
    from jupyter_book.config import get_final_config, validate_yaml

    file = project.root / "_config.yml"
    config = chapters.read_yaml(file, _config(project))
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


def _config(project):
    """Text of the configuration, with launch buttons where it is known where the sources are."""
    config, url = chapters.read_text(project.root / "_config.yml"), chapters.repository(project)
    return config + _LAUNCH_BUTTONS.format(url, PUBLISHED_BRANCH) if url else config


def _common_files(project):
    """Text of the files that a single page needs, too, by their place."""
    files = {"_config.yml": _config(project)}
    for pattern in ("*.bib", "_static/*"):
        for file in project.notebooks.glob(pattern):
            place = file.relative_to(project.notebooks).as_posix()
            files[place] = file.read_text(encoding="utf-8")
    for chapter in chapters.chapter_names(project):
        file = project.notebooks / f"{chapter}.py"
        files[f"_chapters/{chapter}.py"] = file.read_text(encoding="utf-8")
    for place, (package, name) in _SCRIPTS.items():
        if found := find_spec(package):
            script = Path(found.origin).parent / name
            files[f"_scripts/{place}"] = script.read_text(encoding="utf-8")
    return files


def _complete(project, chapter, notebook):
    """Give figures the captions that the run knows, and tell below the parameters how to run the
    chapter again, from what it declares.
    """
    from nbformat.v4 import new_markdown_cell

    for figure, output in findings.figures(notebook):
        figure["caption"] = output.metadata.pop("caption", figure["caption"])
    declared = chapters.parameters(project, chapter)
    used = findings.used_parameters(notebook)
    changed = [p for p in declared.values() if used.get(p.name) != p.default]
    as_here = "".join(f" \\\n  -p {p.name} {typed(used[p.name])}" for p in changed)
    lines = [
        "::::{dropdown} Rerun this page with other parameters",
        ":class-container: rerun",
        "",
        "In a clone of the project, this command makes the page as it is here. Any parameter "
        "below can be set with `-p NAME VALUE`; numbers, verdict and text follow.",
        "",
        "```",
        f"topobook run {chapter}{as_here}",
        "```",
        "",
    ]
    for p in declared.values():
        here = f", here `{used[p.name]!r}`" if p in changed else ""
        meaning = f": {p.meaning}" if p.meaning else ""
        lines.append(f"- **`{p.name}`** ({p.accepted()}; default `{p.default!r}`{here}){meaning}")
    lines += ["", f"Source: {{download}}`{chapter}.py <_chapters/{chapter}.py>`"]
    if url := chapters.repository(project):
        lines[-1] += f", [in the repository]({url}/blob/HEAD/notebooks/{chapter}.py)"
    box = new_markdown_cell("\n".join([*lines, "::::"]), id="rerun")
    tagged = {tag: i for i, c in enumerate(notebook.cells) for tag in c.metadata.get("tags", [])}
    at = tagged["parameters"]
    if injected := tagged.get("injected-parameters"):  # what they are, the box says
        notebook.cells[injected].metadata.tags.append("remove-cell")
        at = injected
    notebook.cells.insert(at + 1, box)


def typed(value):
    """A parameter's value as it is typed on the command line."""
    text = value if isinstance(value, str) else repr(value)
    if not isinstance(value, str) and '"' not in text:
        text = text.replace("'", '"')  # so that a list is '["a"]' in the shell
    return shlex.quote(text)


def _findings_table(results):
    """A Markdown table of all findings, for the book's first page."""
    rows = ["| chapter | claim | verdict | number |", "|---|---|---|---|"]
    for chapter, found in results.items():
        name = found["headline"]
        number = findings.format_number(found["numbers"][name])
        rows.append(
            f"| [](./{chapter}.ipynb) | {found['claim']} | **{found['verdict']}** | "
            f"{name.replace('_', ' ')}: {number} |"
        )
    return "\n".join(rows) + "\n"


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
    times = {chapter: nb.metadata["topobook"]["seconds"] for chapter, nb in executed.items()}
    for chapter, notebook in executed.items():
        ended = notebook.metadata.papermill["end_time"][:16].replace("T", " ")
        lines.append(f"| [](./{chapter}.ipynb) | {times[chapter]:.1f} | {ended} |")
    lines += [f"| all | {sum(times.values()):.1f} | |"]
    lines += ["", "## Versions", "", "| package | version |", "|---|---|"]
    lines += [f"| {name} | {number} |" for name, number in _versions().items()]
    return "\n".join(lines) + "\n"


def _versions():
    """Python, and the packages that the book needs, with their versions."""
    found = {}
    for requirement in requires("topo_utils") or []:
        name = re.match(r"[\w.-]+", requirement)[0]
        wanted = "extra ==" not in requirement or re.search(r"extra == .book.", requirement)
        if wanted and name != "topo_utils":
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
    found = dict(sorted(found.items(), key=lambda item: item[0].lower()))
    return {"Python": platform.python_version()} | found


# ---------------------------------------------------------------------------------------------
# Jupyter Book.


def render(source, out, names, strict=True):
    """Let Jupyter Book make HTML of a staged folder; returns where it is."""
    # Only what a build has completed is gone on from: else a page that was cut off, or one with a
    # warning, would not be looked at again.
    complete = out / "complete"
    if not complete.is_file():
        shutil.rmtree(out, ignore_errors=True)
    complete.unlink(missing_ok=True)
    done = jupyter_book(source, out, ["-W", "-n", "--keep-going"] if strict else [])
    html = out / "_build" / "html"
    missing = [name for name in names if not (html / f"{name}.html").is_file()]
    if done.returncode or missing:
        raise BookError(
            "Jupyter Book could not render the pages"
            + (f" (missing: {', '.join(missing)})\n" if missing else "\n")
            + complaints(done),
            "Mend these places in notebooks/, and type it again; the last good book is still there",
        )
    complete.touch()
    return html


def jupyter_book(source, out, options):
    """Let Jupyter Book build something of a staged folder; returns the process."""
    require("jupyter_book")
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


def complaints(done):
    """The warnings and errors of a process of Jupyter Book, else the end of what it said."""
    lines = plain(done.stdout + done.stderr).splitlines()
    told = [line for line in lines if "WARNING" in line or "ERROR" in line]
    return "\n".join(told or lines[-15:])


def plain(text):
    """Text without the colours of a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def sync(folder, files):
    """Make a folder hold these texts by their place, and nothing else.

    What has not changed is not written: Jupyter Book tells by the times what to render again.
    """
    for file in list(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in files:
            file.unlink()
    for place, text in files.items():
        chapters.write_whole(folder / place, text)


def copy_folder(new, old):
    """Put a copy of folder `new` in the place of `old`."""
    with replacing(old) as part:
        shutil.copytree(new, part)
