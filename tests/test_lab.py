"""Chapters in JupyterLab: nothing is left in the repository but what somebody edited."""

import difflib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import git, git_status, wait_until
from test_notebooks import QUOTES, texts
from test_site import chromium  # noqa: F401 (a fixture)

from topo_utils.book import Project
from topo_utils.book.findings import prose

ROOT = Path(__file__).parents[1]
CHAPTERS = Project(ROOT).chapters()
SETS = [path.stem for path in sorted((ROOT / "notebooks" / "assignments").glob("ps*.py"))]


@pytest.fixture
def repository(tmp_path):
    """A repository of its own with the files of this one, all committed."""
    if git_status(ROOT) is None:
        pytest.skip("no git repository: what belongs to it cannot be told from what was made")
    copy = tmp_path / "a répository"
    known = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, known.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    git(copy, "init", "-q")
    git(copy, "add", "--all")
    settings = ("user.name=test", "user.email=test@localhost", "commit.gpgsign=false")
    settings = [word for setting in settings for word in ("-c", setting)]
    git(copy, *settings, "commit", "-q", "-m", "all")
    return copy


# ---------------------------------------------------------------------------------------------
# Every chapter through what JupyterLab reads and writes it with.


@pytest.fixture
def contents(tmp_path):
    """The contents manager of `make lab`, on a copy of the chapters."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    from jupytext import TextFileContentsManager

    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return TextFileContentsManager(root_dir=str(tmp_path / "notebooks"))


def open_and_run(contents, name):
    """A chapter's model as it is after running all cells, with what the kernel says of itself."""
    from jupyter_client.kernelspec import get_kernel_spec
    from nbformat.v4 import new_output

    model = contents.get(name, type="notebook")
    notebook = model["content"]
    assert notebook.metadata.kernelspec.name == "python3"
    notebook.metadata.kernelspec.display_name = get_kernel_spec("python3").display_name
    notebook.metadata["language_info"] = {"name": "python", "version": "3.99"}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [new_output("stream", text="said")]
            cell.metadata["trusted"] = True
            cell.metadata["execution"] = {"iopub.status.busy": "2000-01-01T00:00:00"}
    return model


@pytest.mark.parametrize("name", [*CHAPTERS, *(f"assignments/{name}" for name in SETS)])
def test_a_source_is_the_same_when_a_run_of_it_is_saved(contents, name):
    source = Path(contents.root_dir) / f"{name}.py"
    before, files = source.read_bytes(), set(Path(contents.root_dir).rglob("*"))
    model = open_and_run(contents, f"{name}.py")
    contents.save(model, f"{name}.py")
    assert source.read_bytes().decode() == before.decode()
    assert set(Path(contents.root_dir).rglob("*")) == files


@pytest.mark.parametrize("name", CHAPTERS)
def test_one_changed_parameter_is_one_changed_line(contents, name):
    source = Path(contents.root_dir) / f"{name}.py"
    before = source.read_text(encoding="utf-8").splitlines()
    model = open_and_run(contents, f"{name}.py")
    (cell,) = [c for c in model["content"].cells if "parameters" in c.metadata.get("tags", [])]
    *above, last = cell.source.splitlines()
    cell.source = "\n".join([*above, f"{last}  # mine"])
    contents.save(model, f"{name}.py")
    after = source.read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert changed == [f"- {last}", f"+ {last}  # mine"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_tells_once_how_to_change_the_parameters(name):
    cells = Project(ROOT).read(name).cells
    (at,) = [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])]
    assert cells[at - 1].source.startswith("## Parameters\n\nThis page is a notebook: change")
    assert sum("This page is a notebook" in cell.source for cell in cells) == 1


# ---------------------------------------------------------------------------------------------
# The repository after a run, a build and a reading.


@pytest.mark.slow
def test_a_run_changes_nothing(repository):
    command = [sys.executable, "-m", "topo_utils", "run", "homology_primer", "--preset", "smoke"]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths}
    environment.pop("TOPO_UTILS_CACHE")  # so that it, too, is where it is for a user
    subprocess.run(command, cwd=repository, env=environment, capture_output=True, check=True)
    assert (repository / "_build" / "runs" / "homology_primer.ipynb").is_file()
    assert git_status(repository) == ""


def test_a_build_changes_nothing(built):
    before, after = built.git_status
    if before is None:
        pytest.skip("no git repository")
    assert after == before


def answers(address):
    """Whether a JupyterLab is at this address."""
    try:
        urllib.request.urlopen(f"{address}/api", timeout=120).close()
    except OSError:
        return False
    return True


@pytest.fixture
def lab(repository, tmp_path):
    """The address of a JupyterLab that was started as `make lab` does, with nobody's settings."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    recipe = re.search(r"^lab:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    recipe = recipe.replace("$(BIN)/python", sys.executable)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    options = f"--no-browser --allow-root --port={address.rpartition(':')[2]}"
    options += " --ServerApp.port_retries=0 --IdentityProvider.token="
    own = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    own = {f"JUPYTER_{name}": str(tmp_path / name) for name in own}
    own |= {f"JUPYTERLAB_{name}_DIR": str(tmp_path / name) for name in ("SETTINGS", "WORKSPACES")}
    # All cells are there, also those that have been scrolled out of sight.
    settings = tmp_path / "SETTINGS" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    log = tmp_path / "lab.log"
    with log.open("w") as out:
        server = psutil.Popen(
            ["env", *shlex.split(f"{recipe} {options}")],
            cwd=repository,
            env=os.environ | own | {"IPYTHONDIR": str(tmp_path / "ipython")},
            stdout=out,
            stderr=out,
        )
    try:
        assert wait_until(lambda: answers(address) or server.poll() is not None), log.read_text()
        assert server.poll() is None, log.read_text()
        yield address
    finally:
        family = [server, *server.children(recursive=True)] if server.is_running() else []
        server.terminate()
        _, left = psutil.wait_procs(family, timeout=120)
        for process in left:
            process.kill()
    assert left == [], log.read_text()  # a kernel that nobody stops


def open_notebooks(page):
    """The cells of the notebook in front."""
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell")


def menu(page, name, entry):
    page.get_by_role("menuitem", name=name, exact=True).click()
    page.locator(".lm-Menu-item").filter(has_text=re.compile(f"^{entry}")).first.click()


def save(page):
    """Save what is in front, and wait until it is."""
    with page.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
        page.keyboard.press("Control+s")
    page.locator(".jp-mod-current.jp-mod-dirty").wait_for(state="detached")


@pytest.mark.slow
def test_a_chapter_in_jupyterlab(lab, built, repository, chromium):  # noqa: F811
    source = repository / "notebooks" / "transfer_score.py"  # its default measures nothing
    before = source.read_bytes()
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{lab}/lab/tree/homology_primer.py")  # with the opener that stands in the settings
    cells = open_notebooks(page)
    cells.locator("p", has_text="This page is a notebook: change these values").first.wait_for()
    page.locator(".jp-DirListing-item").filter(has_text="transfer_score.py").dblclick()
    cells.first.get_by_role("heading", name="Does the score θ rank networks").wait_for()
    cells.locator("p", has_text="This page is a notebook: change these values").first.wait_for()

    menu(page, "Run", "Run All Cells")
    kinds = [cell.cell_type for cell in Project(repository).read("transfer_score").cells]
    last = f"[{kinds.count('code')}]:"  # an error would have stopped the run before it
    page.locator(".jp-InputPrompt", has_text=last).wait_for()
    executed = nbformat.read(built.build / "executed" / "transfer_score.ipynb", 4)
    outputs = cells.locator(".jp-OutputArea-output")
    expected = [text for paragraph in prose(executed) for text in texts(paragraph) if text]

    def missing():
        shown = " ".join(" ".join(outputs.all_inner_texts()).split()).translate(QUOTES)
        return [text for text in expected if text.translate(QUOTES) not in shown]

    assert expected
    assert wait_until(lambda: not missing(), 60), missing()
    save(page)
    assert source.read_bytes() == before
    assert git_status(repository) == ""

    cells.first.click()
    page.keyboard.press("Control+Home")
    page.locator(".cm-line").filter(has_text="penalty: float = 0.001").click()
    page.keyboard.press("End")
    page.keyboard.type("5")
    save(page)
    assert git_status(repository) == " M notebooks/transfer_score.py\n"
    edited = before.replace(b"penalty: float = 0.001\n", b"penalty: float = 0.0015\n")
    assert source.read_bytes() == edited
    page.close()
    assert not [url for url in asked if url.startswith("http") and not url.startswith(lab)]
