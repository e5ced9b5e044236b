"""Errors that a person can act on, exit codes, and what Ctrl-C leaves."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import wait_until
from test_book import CHAPTER, make_project, words

from topo_utils import __main__ as command_line
from topo_utils import files
from topo_utils.__main__ import main
from topo_utils.book import BookError, Project, chapters, pages
from topo_utils.book.errors import explained, how_to_install

OFF = "execute: {execute_notebooks: 'off'}\n"
GRID = ["--grid", "number", "1"]
PROFILE = ["profile", "--model", "nonesuch", "--images", "nonesuch"]

needs_signals = pytest.mark.skipif(os.name == "nt", reason="no SIGHUP, nor SIGINT for another")
#: What stops the command line, and its exit code then.
STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143}
if os.name != "nt":
    STOPS[signal.SIGHUP] = 129


@pytest.fixture(autouse=True, scope="module")
def signals_as_they_are_by_default():
    """Under nohup, and in the background of a script, some are ignored, by what is started too."""
    usual = dict.fromkeys(STOPS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chapters._declared.cache_clear()
    return make_project(tmp_path)


def said(capsys, arguments, *codes):
    """The lines of an error: the first names the program, and there is no traceback."""
    assert main(arguments) in (codes or (1, 2))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("topobook: ")
    assert not any(line.startswith("Traceback") for line in lines)
    return [lines[0].removeprefix("topobook: "), *lines[1:]]


def test_exit_codes_are_those_that_the_help_and_the_readme_name(project, monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    codes = (
        "0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C, 143 by SIGTERM, 129 by SIGHUP"
    )
    assert f"exit codes: {codes}" in " ".join(capsys.readouterr().out.split())
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"Exit codes: {codes}." in " ".join(readme.split())

    assert main(["list"]) == 0
    assert main(["list", "--debug"]) == 0
    for wrong in (["run", "other"], ["run", "small", "-p", "size", "3"], ["book", "--preset", "x"]):
        assert main(wrong) == 2
    (project.notebooks / "small.py").write_text("no chapter")
    assert main(["run", "small"]) == 1
    (project.notebooks / "small.py").write_text(CHAPTER)
    with pytest.raises(SystemExit) as caught:
        main(["run"])
    assert caught.value.code == 2
    capsys.readouterr()
    handlers = [signal.getsignal(number) for number in STOPS]
    for number, code in STOPS.items():
        monkeypatch.setattr(command_line, "_list", lambda _, n=number: signal.raise_signal(n))
        assert said(capsys, ["list"], code) == ["stopped", "The same command begins again"]
    assert [signal.getsignal(number) for number in STOPS] == handlers


@needs_signals
def test_a_signal_that_is_ignored_stays_so(project, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        monkeypatch.setattr(command_line, "_list", lambda _: signal.raise_signal(signal.SIGHUP))
        assert main(["list"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@needs_signals
def test_who_is_stopped_tidies_up_before_it_ends(project, monkeypatch, capsys):
    tidied = []

    def work(_):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # somebody is in a hurry
            signal.raise_signal(signal.SIGHUP)
            tidied.append(True)

    monkeypatch.setattr(command_line, "_list", work)
    assert said(capsys, ["list"], 143)
    assert tidied


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BookError("a", "b"), 1),
        (ValueError("a"), 1),
        (PermissionError(errno.EACCES, "a", "b"), 1),
        (KeyError("a"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch, capsys, error, code, place):
    def fail(_):
        raise error

    monkeypatch.setattr(command_line, "_cache", fail)
    arguments = ["cache", "list"]
    short = said(capsys, arguments, code)
    arguments.insert(place, "--debug")
    assert main(arguments) == code
    long = capsys.readouterr().err.splitlines()
    assert long[0].startswith("Traceback")
    assert long[-2:] == [f"topobook: {short[0]}", short[1]]


@pytest.mark.parametrize(
    ("error", "wrong", "todo"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied", "-o"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file", "-o"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "x: No space", "cache prune"),
        (FileExistsError(errno.EEXIST, "File exists", "x"), "x: File exists", "take it away"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), "x: Not a", "take it away"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "x: File name", "Name a shorter"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "x: Is a", "take it away"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "x: No such", "spelled"),
        (OSError("odd"), "odd", "--debug"),
        (shutil.Error([("a", "b", "[Errno 28] No space"), ("c", "d", "e")]), "[Errno 28]", "--de"),
        (ConnectionRefusedError("refused"), "refused", "the network is up"),
        (TimeoutError("took too long"), "took too long", "the network is up"),
        (ValueError("n is 0; accepted: True, or None"), "n is 0", "Accepted: True, or None"),
        (TypeError("n is 0; needed: a number"), "n is 0", "Needed: a number"),
        (ValueError("odd"), "ValueError: odd", "--debug"),
        (ZeroDivisionError("odd"), "ZeroDivisionError: odd", "--debug"),
        (ModuleNotFoundError(name="nonesuch"), "nonesuch is not installed", "Install it"),
    ],
)
def test_an_error_of_another_kind_says_what_to_do(monkeypatch, capsys, error, wrong, todo):
    def fail(_):
        raise error

    monkeypatch.setattr(command_line, "_cache", fail)
    first, last = said(capsys, ["cache", "list"])
    assert first.startswith(wrong)
    assert todo in last


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("topo_utils.book.Project.run", ["run", "small"]),
        ("topo_utils.book.sweep.sweep", ["sweep", "small", "--grid", "number", "1"]),
        ("topo_utils.book.Project.build_book", ["book"]),
        ("topo_utils.book.Project.chapters", ["list"]),
        ("topo_utils.__main__.compare_runs", ["compare", "a", "b"]),
        ("topo_utils.weights.pretrain.pretrain", ["pretrain", "a"]),
        ("topo_utils.store.list_cache", ["cache", "list"]),
    ],
)
def test_every_command_says_it_the_same_way(project, monkeypatch, capsys, place, arguments):
    error = OSError(errno.ENOSPC, "No space left on device", "x")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(place, fail)
    assert said(capsys, arguments) == ["x: No space left on device", explained(error).todo]


@pytest.mark.parametrize(
    ("file", "content", "wrong", "todo"),
    [
        ("_toc.yml", "a: [", "_toc.yml cannot be read: while parsing", "Mend _toc.yml"),
        ("_toc.yml", b"\xff", "_toc.yml cannot be read: 'utf-8'", "Mend _toc.yml"),
        ("_toc.yml", "", "_toc.yml is no table of contents", "Needed: root: PAGE"),
        ("_toc.yml", "chapters: []", "table of contents ('root' is missing)", "Needed: root: PAGE"),
        ("_toc.yml", "root: intro\nchapters: small", "no table of contents", "Needed: root: PAGE"),
        (
            "_toc.yml",
            "root: intro\nchapters: [file: smal]",
            "_toc.yml names the page smal, which is not there",
            "Write notebooks/smal.md or notebooks/smal.py",
        ),
        (
            "_toc.yml",
            "root: intro\nchapters: [file: small, file: small]",
            "_toc.yml names the page small more than once",
            "Leave one of these lines",
        ),
        ("notebooks/presets.yml", "default:", "does not say which preset", "Needed: PRESET: {CH"),
        ("notebooks/presets.yml", "- a", "does not say which preset", "Needed: PRESET: {CHAPTER"),
        ("notebooks/presets.yml", "a: {small: 3}", "does not say which", "Needed: PRESET: {CHAPT"),
        (
            "notebooks/presets.yml",
            "a: {smal: {}}",
            "preset a: no chapter 'smal'",
            "Did you mean small? Chapters: small; to be mended in",
        ),
        ("notebooks/small.py", "", "has 0 cells tagged parameters", 'tags=["parameters"]'),
        ("notebooks/small.py", b"# \xff", "small.py cannot be read: 'utf-8'", "Save it as UTF-8"),
        (
            "notebooks/small.py",
            CHAPTER.replace("float = 3.0", "float = (3.0"),
            "cell of parameters: '(' was never closed: number: float = (3.0",
            "Mend it in notebooks/small.py",
        ),
        (
            "notebooks/small.py",
            CHAPTER.replace("float = 3.0", "float = 3.0 * 2"),
            "number: float = 3.0 * 2 has no plain default",
            "Give it one in notebooks/small.py",
        ),
        (
            "notebooks/small.py",
            CHAPTER.replace("number: float", "number: flaot"),
            "parameter number is declared as flaot",
            "Declare it in the chapter with bool",
        ),
        ("_config.yml", "a: [", "_config.yml cannot be read", "Mend _config.yml"),
        ("_config.yml", b"\xff", "_config.yml cannot be read: 'utf-8'", "Mend _config.yml"),
        ("_config.yml", "", "no configuration of this book: it is empty", "from a fresh clone"),
        ("_config.yml", "# words", "configuration of this book: it is empty", "a fresh clone"),
        ("_config.yml", "- a", "this book: ['a'] is no mapping", "Mend _config.yml"),
        ("_config.yml", "title: Small", "it does not say execute: {execute_notebooks", "Mend"),
        ("_config.yml", "execute: {execute_notebooks: force}", "does not say execute: {ex", "Mend"),
        ("_config.yml", "execute: 3", "3 is not of type 'object' [key path: 'execute']", "Mend"),
        ("_config.yml", f"title: 2026\n{OFF}", "2026 is not of type 'string' [key path:", "Mend"),
        ("_config.yml", f"sphinx: []\n{OFF}", "[] is not of type 'object' [key path:", "Mend"),
        ("_config.yml", f"latex: null\n{OFF}", "no configuration of this book: ", "Mend"),
    ],
)
def test_a_broken_file_is_named(project, capsys, file, content, wrong, todo):
    (project.root / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    commands = [["book"]]
    if file == "_config.yml":  # of whatever ends with a page
        commands += [["run", "small", "--html", "page"]]
        commands += [["profile", "--model", "nonesuch", "--images", "nonesuch"]]
    for arguments in commands:
        first, last = said(capsys, arguments)
        assert wrong in first
        assert todo in last
        assert not project.build.exists()


@pytest.mark.parametrize("repository", ["", "https://github.com/some-one/topo"])
@pytest.mark.parametrize("also", ["", "title:\n", "logo:\nparse:\n", "html: {baseurl: a}\n"])
def test_a_configuration_with_which_a_book_is_rendered_is_taken(
    project, monkeypatch, also, repository
):
    monkeypatch.setenv("TOPOBOOK_REPOSITORY", repository)
    (project.root / "_config.yml").write_text(also + OFF)
    project.check_config()
    Project(Path(__file__).parents[1]).check_config()


def test_a_file_that_is_missing_is_named(project, capsys):
    (project.root / "notebooks" / "presets.yml").unlink()
    first, last = said(capsys, ["run", "small"])
    assert "presets.yml cannot be read: [Errno 2] No such file" in first
    assert "fresh clone" in last


def test_a_page_without_a_title_is_named(project):
    (project.notebooks / "intro.md").write_text("words")
    with pytest.raises(BookError, match=r"page intro has no title\nBegin it with .* # Title"):
        project.title("intro")


LONG = "n" * 300
TOO_LONG = [
    ["run", "small", "-o", LONG],
    ["run", "small", "-o", f"no/such/{LONG}"],
    ["run", "small", "-o", f"{LONG}.ipynb"],
    ["run", "small", "-o", f"{LONG}/a.ipynb"],
    ["run", "small", "--html", LONG],
    ["run", "small", "--html", f"{LONG}/page"],
    ["sweep", "small", "--grid", "mode", "loud", "-o", LONG],
    ["pretrain", "dir.ipynb", "-o", LONG],
    ["profile", "--model", "none", "--images", "digits", "-o", LONG],
    ["profile", "--model", "none", "--images", "digits", "-o", f"no/{LONG}"],
]


@pytest.mark.parametrize(
    ("arguments", "wrong", "todo"),
    [
        (["run", "small", "-o", "file"], "-o file is no notebook and no folder", "Accepted: a"),
        (["run", "small", "-o", "dir.ipynb"], "dir.ipynb is a folder", "Name a file that ends"),
        (["run", "small", "-o", "file/a.ipynb"], "file/a.ipynb: Not a dir", "A file is where a f"),
        *((command, "File name too long", "Name a shorter place") for command in TOO_LONG),
        (["run", "small", "--html", "file"], "file exists and is no rendered page", "Name anoth"),
        (["run", "small", "--html", "dir.ipynb"], "dir.ipynb exists and is no", "Name another f"),
        (["sweep", "small", "--grid", "mode", "loud", "-o", "file"], "file is a file", "a folder"),
        (
            ["compare", "none", "file"],
            "there is no notebook none",
            "Run a chapter first: to",
        ),
        (["compare", "dir.ipynb", "file"], "cannot be read: [Errno 21]", "that topobook run wro"),
        (["compare", "file", "file"], "file cannot be read: Notebook does", "that topobook run "),
        (["compare", "map.json", "file"], "map.json cannot be read: ", "that topobook run wrote"),
        (["compare", "list.json", "file"], "list.json cannot be read: ", "that topobook run wro"),
        (["pretrain", "file"], "file/train-images-idx3-ubyte.gz cannot be read", "Needed: the fo"),
        (["pretrain", "dir.ipynb", "--epochs", "0"], "--epochs is 0", "Accepted: a number from 1"),
        (["pretrain", "dir.ipynb", "--seed", "-1"], "--seed is -1", "Accepted: a number from 0 to"),
        ([*PROFILE, "--seed", "-1"], "--seed is -1", "Accepted: a number from 0 to 92233720368547"),
        ([*PROFILE, "--seed", "9" * 20], f"--seed is {'9' * 20}", "Accepted: a number from 0 to"),
        ([*PROFILE, "--size", "0"], "--size is 0", "Accepted: a number from 1"),
        ([*PROFILE, "--n-images", "-5"], "--n-images is -5", "Accepted: a number from 1"),
        (
            ["run", "small", "-p", "mode", "quiet", "-p", "mode", "loud"],
            "mode is given more",
            "onc",
        ),
        (["sweep", "small", *GRID, *GRID], "parameter number is given more than once", "Give it o"),
        (
            ["sweep", "small", *GRID, "-p", "number", "1"],
            "number is given more than",
            "Give it onc",
        ),
        (["cache", "prune", "5"], "no size: '5'", "Accepted: a number with B, kB"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(project, capsys, arguments, wrong, todo):
    (project.root / "file").write_text("words")
    (project.root / "dir.ipynb").mkdir()
    (project.root / "map.json").write_text("{}")
    (project.root / "list.json").write_text("[1]")
    first, last = said(capsys, arguments)
    assert wrong in first
    assert todo in last
    assert (project.root / "file").read_text() == "words"
    assert not list(project.root.rglob("small*.ipynb"))


def test_a_home_is_a_home_wherever_a_path_is_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    got = []
    for name in ("_run", "_sweep", "_pdf", "_compare", "_pretrain"):
        monkeypatch.setattr(command_line, name, got.append)
    for arguments in (
        ["run", "small", "-o=~/a", "--html", "~/a"],
        ["sweep", "small", *GRID, "-o", "~/a"],
        ["pdf", "-o~/a"],
        ["compare", "~/a", "~/a"],
        ["pretrain", "~/a", "-o", "~/a"],
    ):
        main(arguments)
    names = ("out", "html", "a", "b", "folder")
    paths = [getattr(options, name, None) for options in got for name in names]
    assert [path for path in paths if path is not None] == [str(tmp_path / "a")] * 8


#: Numbers below zero as people write them.
BELOW = ["-1", "-1e-3", "-1E5", "-.5", "-1.", "-1_000", "-inf", "-Infinity"]


@pytest.mark.parametrize("text", BELOW)
def test_a_number_below_zero_is_a_value_and_no_option(project, monkeypatch, text):
    got = []
    monkeypatch.setattr(Project, "run", lambda _, chapter, parameters, *__: got.append(parameters))
    monkeypatch.setattr(command_line, "finding", lambda _: None)
    assert main(["run", "small", "-p", "number", text, "-o", "out"]) == 0
    assert got.pop() == {"number": float(text)}
    monkeypatch.setattr(command_line, "_sweep", lambda options: got.append(options.grid))
    main(["sweep", "small", "--grid", "number", text, "2", text, "--jobs", "2"])
    assert got.pop() == [["number", text, "2", text]]
    monkeypatch.setattr(command_line, "_profile", got.append)
    main([*PROFILE, "--thresholds", "1", text, "--size", "8"])
    assert got.pop().thresholds == [1.0, float(text)]


@pytest.mark.parametrize("text", ["-foo", "--foo", "-5x", "-nothing", "-", "-o5", "- p", "-a=b"])
def test_a_text_may_begin_with_a_dash(project, monkeypatch, capsys, text):
    got = []
    monkeypatch.setattr(Project, "run", lambda _, chapter, parameters, *__: got.append(parameters))
    monkeypatch.setattr(command_line, "finding", lambda _: None)
    assert main(["run", "-p", "words", text, "small", "-p", "mode", "loud", "-o", "out"]) == 0
    assert got == [{"words": text, "mode": "loud"}]


@pytest.mark.parametrize("option", ["-o", "--html", "--preset=smoke", "--pre", "-p", "--debug"])
def test_an_option_is_no_value(project, capsys, option):
    with pytest.raises(SystemExit) as caught:
        main(["run", "small", "-p", "words", option, "x"])
    assert caught.value.code == 2
    assert "argument -p: expected 2 arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("jupytext", ["run", "small"], "book"),
        ("yaml", ["list"], "book"),
        ("papermill", ["run", "small"], "book"),
        ("ipykernel", ["run", "small"], "book"),
        ("dask.distributed", ["sweep", "small", "--grid", "number", "1"], "cluster"),
    ],
)
def test_a_missing_package_is_named_with_the_extra(
    project, monkeypatch, capsys, module, arguments, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    arguments = [*arguments, "--scheduler", "tcp://a:1"] if extra == "cluster" else arguments
    first, last = said(capsys, arguments)
    assert first in (f"{module} is not installed", "--scheduler needs Dask")
    assert last == f"pip install 'topo_utils[{extra}]'"


def test_the_extras_that_are_named_are_there(monkeypatch, tmp_path):
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    used = "IPython cripser filelock ipykernel jupyter_book jupytext myst_nb nbclient nbformat "
    used += "papermill plotly psutil pydantic yaml dask distributed timm bs4 playwright pypdf"
    for module in used.split():
        extra = re.fullmatch(r"pip install 'topo_utils\[(\w+)\]'", how_to_install(module))[1]
        assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE)
    assert how_to_install("timm.models") == "pip install 'topo_utils[networks]'"
    assert how_to_install("nonesuch") is None
    monkeypatch.setitem(sys.modules, "jupyter_book", None)
    with pytest.raises(ModuleNotFoundError, match="jupyter_book"):
        pages.render(tmp_path, tmp_path, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "wrong", "todo"),
    [
        ("half = (number", ["SyntaxError: '(' was never closed"], "look there, and change the ch"),
        ("assert False", ["AssertionError"], "look there, and change the chapter or a parameter"),
        (
            "raise ValueError('one\\nValueError: two\\n\\n  three')",
            ["ValueError: one", "ValueError: two", "", "  three"],
            "look there, and change the chapter",
        ),
        (
            "raise ModuleNotFoundError(\"No module named 'timm'\")",
            ["ModuleNotFoundError: No module named 'timm'"],
            "pip install 'topo_utils[networks]'",
        ),
        ("import os; os._exit(1)", ["Kernel died"], "often memory ran out"),
    ],
)
def test_a_failed_chapter_says_where_and_why(project, capsys, code, wrong, todo):
    (project.notebooks / "small.py").write_text(CHAPTER.replace("half = number / 2", code))
    assert main(["run", "small"]) == 1
    first, *more, last = capsys.readouterr().err.partition("topobook: ")[2].splitlines()
    assert re.match(r"chapter small failed in cell \S+ \(from IPython.display import Mark", first)
    assert first.endswith(f": {wrong[0]}")
    assert more == wrong[1:]
    kept = project.build / "failed" / "small.ipynb"
    assert f"is kept in {kept}: " in last
    assert todo in last
    assert json.loads(kept.read_text())["cells"]
    assert list(kept.parent.iterdir()) == [kept]


def start(project, arguments):
    """The command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "topo_utils", *arguments],
        cwd=project.root,
        env=ours(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=None
        if os.name == "nt"
        else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


class Full(io.StringIO):
    """A stream that takes so many writings, and then no more."""

    def __init__(self, error, takes):
        super().__init__()
        self.error, self.takes = error, takes

    def write(self, text):
        if self.takes == 0:
            raise self.error
        self.takes -= 1
        return super().write(text)


OUTPUTS = {
    "closed": lambda: None,
    "full": lambda: Full(OSError(errno.ENOSPC, "No space left on device"), 0),
    "full after a line": lambda: Full(OSError(errno.ENOSPC, "No space left on device"), 3),
    "nobody reads": lambda: Full(BrokenPipeError(errno.EPIPE, "Broken pipe"), 1),
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "latin-1": lambda: io.TextIOWrapper(io.BytesIO(), encoding="latin-1"),
}


@pytest.fixture
def worked(project, monkeypatch):
    """A project whose chapter says θ, and whose run only writes a notebook with a finding."""
    source = project.notebooks / "small.py"
    source.write_text(CHAPTER.replace("A number", "θ, a number"), encoding="utf-8")

    def run(self, chapter, parameters, out, **_):
        out.parent.mkdir(parents=True, exist_ok=True)
        finding = {"verdict": "reproduced", "reason": "θ is 1.", "numbers": {"θ": {"value": 1.0}}}
        output = nbformat.v4.new_output("display_data", metadata={"topobook_finding": finding})
        cell = nbformat.v4.new_code_cell(outputs=[output])
        print("θ, progress", file=sys.stderr)
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), out)
        return nbformat.read(out, as_version=4)

    monkeypatch.setattr(Project, "run", run)
    return project


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_place_of_the_result_is_said_whatever_the_output(worked, monkeypatch, capsys, kind):
    stream = OUTPUTS[kind]()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["run", "small", "-o", "ö.ipynb"]) == 0
    assert Path("ö.ipynb").is_file()
    told = capsys.readouterr().err
    if isinstance(stream, io.TextIOWrapper):
        told = stream.buffer.getvalue().decode(stream.encoding)
    place = "ö.ipynb" if kind != "ascii" else "\\xf6.ipynb"
    assert f"The executed notebook is {place}\n" in told
    assert sys.stdout is stream

    # What only says something fails where it cannot; a reader who has enough is no error.
    monkeypatch.setattr(sys, "stdout", stream := OUTPUTS[kind]())
    encoded = isinstance(stream, io.TextIOWrapper)
    assert main(["list"]) == (0 if encoded else 1)
    error = capsys.readouterr().err
    if encoded:
        assert b"\\u03b8, a number" in stream.buffer.getvalue()
    elif kind == "nobody reads":
        assert error == ""
    else:
        assert error.startswith("topobook: standard output: ")
        assert error.count("\n") == 2


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_error_output_does_not_stop_the_work(worked, monkeypatch, capsys, kind):
    monkeypatch.setattr(sys, "stderr", OUTPUTS[kind]())
    assert main(["run", "small", "-o", "a.ipynb"]) == 0
    assert "The executed notebook is a.ipynb\n" in capsys.readouterr().out
    assert main(["run", "smal"]) == 2


def test_a_chapter_runs_with_all_outputs_closed(project):
    code = "import os, sys; [os.close(n) for n in range(3)]"
    code += "; sys.stdin = sys.stdout = sys.stderr = None"
    code += "; from topo_utils.__main__ import main; sys.exit(main(['run', 'small']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, env=ours(), check=False)
    assert done.returncode == 0
    assert (project.build / "runs" / "small.ipynb").is_file()


def ours():
    """An environment in which this package is the one that is imported."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": ""}


def test_a_reader_who_stops_reading_is_no_error(project):
    run = start(project, ["list"])
    run.stdout.close()
    assert run.stderr.read() == ""
    assert run.wait() == 1


def test_no_file_where_it_is_typed_is_in_a_librarys_place(project, monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    Path("random.py").write_text("raise ImportError('this is not the library')")
    Path("notebooks/beside.py").write_text("")
    with Path("notebooks/small.py").open("a", encoding="utf-8") as chapter:
        chapter.write("\n# %%\nimport beside\n")
    assert main(["run", "small"]) == 0
    # As Jupyter Book and the workers of a sweep are started.
    subprocess.run([sys.executable, "-c", "import random"], check=True)


# ---------------------------------------------------------------------------------------------
# Interrupted.


def tree(*places):
    """The content of all files, by their path."""
    files = [f for p in places for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()]
    return {file: file.read_bytes() for file in files}


def test_a_book_whose_builder_was_killed_is_mended(project):
    html, results = project.build / "html", project.build / "results.json"
    html.mkdir(parents=True)
    (html / "results.json").write_text("of these pages")
    results.write_text("of others")
    # Killed between the two renames, and before the results were written.
    html.rename(files._aside(html))
    (project.notebooks / "small.py").write_text(CHAPTER.replace("= number", "= 1 / 0"))
    with pytest.raises(BookError, match="ZeroDivisionError"):
        project.build_book(progress=False)
    assert (html / "results.json").read_text() == results.read_text() == "of these pages"


def test_pages_of_a_rendering_that_was_stopped_are_made_anew(tmp_path, monkeypatch):
    page, there = tmp_path / "_build" / "html" / "small.html", []

    def half_rendered(*_, **__):
        page.parent.mkdir(parents=True)
        page.write_text("half")
        raise KeyboardInterrupt

    def rendered(command, **_):
        there.append(page.exists())
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("whole")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", half_rendered)
    with pytest.raises(KeyboardInterrupt):
        pages.render(tmp_path / "source", tmp_path, ["small"])
    monkeypatch.setattr(subprocess, "run", rendered)
    for _ in range(2):
        html = pages.render(tmp_path / "source", tmp_path, ["small"])
        assert (html / "small.html").read_text() == "whole"
    assert there == [False, True]


WAITS = """
from pathlib import Path
if words == "wait":
    import threading
    Path("begun").touch()
    while not Path("go").exists():
        threading.Event().wait(0.01)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A built book with a preset and a value for which the chapter takes long."""
    project = make_project(tmp_path_factory.mktemp("a clône [1]"))
    (project.notebooks / "small.py").write_text(
        CHAPTER.replace("half = number / 2\n", "half = number / 2\n" + WAITS)
    )
    with (project.notebooks / "presets.yml").open("a", encoding="utf-8") as presets:
        presets.write("long:\n  small: {words: wait}\n")
    project.build_book(progress=False)
    return project


def stopped(project, arguments, begun, number=signal.SIGINT):
    """Start the command line, send a signal once it has `begun`, and give what it says."""
    run = start(project, arguments)
    assert wait_until(lambda: begun(run) or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    started = psutil.Process(run.pid).children(recursive=True)
    assert started
    run.send_signal(number)
    _, said = run.communicate(timeout=120)
    assert run.returncode == STOPS.get(number, -number)
    _, running = psutil.wait_procs(started, timeout=30)
    assert [process for process in running if process.status() != psutil.STATUS_ZOMBIE] == []
    assert "Traceback" not in said
    return said.partition("topobook: ")[2].splitlines()


def executes(project):
    """Whether the chapter has begun what takes long."""
    begun = project.notebooks / "begun"
    begun.unlink(missing_ok=True)
    return lambda _: begun.exists()


def renders(project):
    """Whether Jupyter Book has begun to write."""

    def times():
        files = [f for f in (project.build / "jupyter-book").rglob("*") if f.is_file()]
        return {file: file.stat().st_mtime_ns for file in files}

    def begun(_):
        with contextlib.suppress(FileNotFoundError):  # it is at work there
            return not times().items() <= before.items()

    before = times()
    return begun


@needs_signals
@pytest.mark.slow
@pytest.mark.parametrize(
    ("while_", "number"),
    [
        ("a chapter executes", signal.SIGTERM),
        ("the pages are rendered", signal.SIGINT),
        ("the pages are rendered", signal.SIGKILL),
    ],
)
def test_who_stops_a_build_keeps_the_last_good_book(built, while_, number):
    html, results = built.build / "html", built.build / "results.json"
    book_before = tree(html, results)
    assert results.read_bytes() == (html / "results.json").read_bytes()
    if while_ == "a chapter executes":
        told = stopped(built, ["book", "--preset", "long"], executes(built), number)
    else:
        (built.notebooks / "intro.md").write_text(f"# Another title: {number}\n")
        told = stopped(built, ["book", "--preset", "large"], renders(built), number)
    if number != signal.SIGKILL:
        first, last = told
        assert first == "stopped"
        assert last.startswith("The last good book is still in place, and the chapters that were f")
    assert tree(html, results) == book_before
    assert not list(built.build.rglob("*.part*"))
    if number != signal.SIGKILL:
        return
    built.build_book("large", progress=False)
    assert "15.00" in (html / "small.html").read_text()
    assert json.loads(results.read_text())["small"]["verdict"] == "not reproduced"
    assert results.read_bytes() == (html / "results.json").read_bytes()


@needs_signals
@pytest.mark.slow
def test_who_stops_a_run_keeps_the_notebook_that_was_there(built, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mine = built.root / "mine.ipynb"
    mine.write_text("the last run")
    arguments = ["run", "small", "-p", "words", "wait", "-o", "mine.ipynb"]
    first, last = stopped(built, arguments, executes(built), signal.SIGHUP)
    assert first == "stopped"
    assert last.endswith("one that was there before is as it was")
    assert mine.read_text() == "the last run"
    assert list(built.root.glob("*.ipynb")) == [mine]
    assert not list(tmp_path.rglob("*.ipynb"))


@needs_signals
@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "number"), [("1", signal.SIGINT), ("2", signal.SIGKILL)])
def test_who_stops_a_sweep_keeps_the_finished_runs(built, tmp_path, monkeypatch, jobs, number):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    done = tmp_path / "done"
    begins = executes(built)
    grid = ["--grid", "words", "short", "wait", "-o", str(done), "--jobs", jobs]

    def begun(run):
        return begins(run) and len(list(done.glob("*.ipynb"))) == 1

    told = stopped(built, ["sweep", "small", *grid], begun, number)
    if number != signal.SIGKILL:
        goes_on = "The runs that were finished are kept: the same command goes on from there"
        assert told == ["stopped", goes_on]
        assert not list((tmp_path / "scratch").rglob("*.ipynb"))
    (finished,) = done.iterdir()
    before = finished.stat().st_mtime_ns
    assert main_in(built.root, ["sweep", "small", *grid[:3], *grid[4:]]) == 0
    assert finished.stat().st_mtime_ns == before


@pytest.mark.slow
def test_of_two_builds_at_once_the_second_waits_and_readers_miss_no_page(built):
    executing, pages = executes(built), [*(built.build / "html").glob("*.html")]
    missed, done = set(), threading.Event()

    def reads():
        while not done.wait(0.001):
            missed.update(page for page in pages if not page.is_file())

    reader = threading.Thread(target=reads)
    reader.start()
    with start(built, ["book", "--preset", "long"]) as first:
        assert wait_until(lambda: executing(first) or first.poll() is not None)
        with start(built, ["book", "--preset", "long"]) as second:
            line = second.stdout.readline()
            assert line.startswith(f"process {first.pid} is at work in {built.build}: waiting")
            (built.notebooks / "go").touch()
            assert "small: executed in" in first.communicate()[0]
            assert "small: unchanged" in second.communicate()[0]
    (built.notebooks / "go").unlink()
    done.set()
    reader.join()
    assert (first.returncode, second.returncode) == (0, 0)
    assert pages
    assert missed == set()


@pytest.mark.slow
def test_two_runs_to_one_place_keep_each_to_its_own(built, tmp_path):
    def run(*arguments):
        return start(built, ["run", "small", "-o", str(tmp_path / "a.ipynb"), *arguments])

    def wrote(number):
        notebook = json.loads((tmp_path / "a.ipynb").read_text())
        return notebook["metadata"]["papermill"]["parameters"].get("number") == number

    executing = executes(built)
    page = ["--html", str(tmp_path / "page")]
    with run("-p", "words", "wait", "-p", "number", "50", *page) as first:
        assert wait_until(lambda: executing(first) or first.poll() is not None)
        with run("-p", "number", "1") as second:
            assert "half is 0.5." in second.communicate()[0]
        assert wrote(1.0)
        (built.notebooks / "go").touch()
        assert "half is 25.0." in first.communicate()[0]
        assert wrote(50.0)
    (built.notebooks / "go").unlink()
    assert "Half of it is 25.00" in words((tmp_path / "page" / "small.html").read_text())


def main_in(folder, arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main(arguments)
