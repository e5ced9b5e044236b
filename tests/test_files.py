"""Files and folders appear whole or not at all: readers, writers at once, odd places, and locks."""

import ast
import contextlib
import errno
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import wait_until

from topo_utils import files
from topo_utils.__main__ import main
from topo_utils.book import BookError
from topo_utils.files import check_place, locked, put_back, replacing

ROOT = Path(__file__).parents[1]
needs_posix = pytest.mark.skipif(os.name == "nt", reason="links, modes and devices of POSIX")


def write(path, text="new"):
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_folder(path, text="new", names=("index.html", "a/page.html")):
    with replacing(path) as part:
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text, encoding="utf-8")


@pytest.fixture(params=["swapped", "renamed"])
def way(request, monkeypatch):
    """The two ways in which a folder takes the place of another."""
    if request.param == "renamed":
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    return request.param


# ---------------------------------------------------------------------------------------------
# Files.


@pytest.mark.parametrize("name", ["a.txt", "no/such/folder/a.txt", "n" * 255, "é" * 127, ".part"])
def test_a_file_is_there_when_it_is_complete(tmp_path, name):
    file = tmp_path / name
    for text in ("one", "two"):
        write(file, text)
        assert file.read_text() == text
    with contextlib.suppress(ZeroDivisionError), replacing(file) as part:
        part.write_text("half")
        assert file.read_text() == "two"
        raise ZeroDivisionError
    assert file.read_text() == "two"
    assert list(file.parent.iterdir()) == [file]


def test_a_profile_can_be_open_while_it_is_made_again(tmp_path):
    def profile(value):
        array = xr.DataArray(np.full((50, 40), value), dims=("image", "block"), name="betti")
        with replacing(tmp_path / "profile.nc") as part:
            array.to_netcdf(part, engine="scipy")

    profile(1)
    with xr.open_dataarray(tmp_path / "profile.nc", engine="scipy") as opened:  # reads when asked
        profile(2)
        assert (opened == 1).all()
    with xr.open_dataarray(tmp_path / "profile.nc", engine="scipy") as opened:
        assert (opened == 2).all()


@needs_posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_rights_that_open_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(before)
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    write(tmp_path / "old")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")]
    assert modes == [mode, 0o640]


@needs_posix
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("make", [write, write_folder])
def test_a_link_stays_and_leads_to_what_is_new(tmp_path, make, there):
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    link.symlink_to(target)
    if there:
        make(target, "old")
    make(link)
    assert link.readlink() == target
    assert (target if make is write else target / "index.html").read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@needs_posix
def test_devices_and_pipes_are_written_to_as_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    check_place(tmp_path / "pipe")
    write(tmp_path / "pipe")
    reader.join()
    assert read == ["new"]
    assert (tmp_path / "pipe").is_fifo()
    check_place(os.devnull)
    write(os.devnull)
    assert Path(os.devnull).is_char_device()


def test_an_error_names_the_file_and_not_its_other_name(tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")


# ---------------------------------------------------------------------------------------------
# Folders.


@pytest.mark.parametrize("place", ["page", "no/such/page", "n" * 255])
def test_a_folder_takes_the_place_of_another(tmp_path, way, place):
    folder = tmp_path / place
    for text, names in (("one", ["a", "b"]), ("two", ["b", "c/d"])):
        write_folder(folder, text, names)
        found = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
        assert sorted(found) == names
        assert {file.read_text() for file in found.values()} == {text}
        assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", range(4))
def test_a_folder_is_replaced_or_left_as_it_is(tmp_path, monkeypatch, way, which, when):
    old, steps = tmp_path / "old", []
    write_folder(old, "old")

    def interrupted(function):
        def call(*arguments):
            steps.append(function)
            now = len(steps) == which + 1
            if now and when == "before":
                raise KeyboardInterrupt
            try:
                return function(*arguments)
            finally:
                if now:
                    raise KeyboardInterrupt

        return call

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupted(Path.rename))
        patch.setattr(files, "_exchange", interrupted(files._exchange))
        write_folder(old)
        assert len(steps) == {"swapped": 2, "renamed": 4}[way] <= which
    assert (old / "index.html").read_text() == (old / "a/page.html").read_text()
    assert list(tmp_path.iterdir()) == [old]
    write_folder(old)
    assert (old / "index.html").read_text() == "new"
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_that_was_away_when_the_process_was_killed_is_put_back(tmp_path):
    write_folder(tmp_path / "page", "old")
    put_back(tmp_path / "page")
    (tmp_path / "page").rename(files._aside(tmp_path / "page"))
    put_back(tmp_path / "page")
    assert (tmp_path / "page" / "index.html").read_text() == "old"


def test_what_a_killed_process_left_of_a_folder_goes(tmp_path):
    left, fresh, other = (tmp_path / f".{name}.part" for name in ("0" * 16, "1" * 16, "mine"))
    for folder in (left, fresh, other):
        folder.mkdir()
    for folder in (left, other):
        os.utime(folder, (0, 0))
    write_folder(tmp_path / "page")
    assert sorted(tmp_path.iterdir()) == [fresh, other, tmp_path / "page"]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="folders cannot be swapped")
def test_readers_of_a_folder_never_miss_a_page(tmp_path):
    folder, missed, read, done = tmp_path / "html", [], [], threading.Event()
    write_folder(folder)

    def reader():
        while not done.is_set():
            for name in ("index.html", "a/page.html"):
                try:
                    read.append((folder / name).read_text())
                except OSError as error:
                    missed.append(error)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for text in map(str, range(50)):
        write_folder(folder, text)
    done.set()
    for thread in threads:
        thread.join()
    assert missed == []
    assert len(set(read)) > 5


@pytest.mark.parametrize("make", [write, write_folder])
def test_of_two_writers_at_once_each_writes_all(tmp_path, make):
    place, errors, meet = tmp_path / "place", [], threading.Barrier(4)

    def writer(text):
        try:
            for _ in range(20):
                meet.wait(120)
                make(place, text)
        except BaseException as error:
            errors.append(error)
            meet.abort()

    threads = [threading.Thread(target=writer, args=(text * 9,)) for text in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = [place] if make is write else [f for f in place.rglob("*") if f.is_file()]
    (text,) = {file.read_text() for file in found}
    assert text in {letter * 9 for letter in "abcd"}
    assert list(tmp_path.iterdir()) == [place]


# ---------------------------------------------------------------------------------------------
# Places.

LONG = "n" * 300


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("a", 0),
        ("no/such/a", 0),
        ("file", 0),
        ("folder", 0),
        ("n" * 255, 0),
        (LONG, errno.ENAMETOOLONG),
        (f"no/{LONG}", errno.ENAMETOOLONG),
        (f"{LONG}/no/a", errno.ENAMETOOLONG),
        (f"no/such/{LONG}/a", errno.ENAMETOOLONG),
        ("é" * 128, errno.ENAMETOOLONG),
        ("a/" * 2100, errno.ENAMETOOLONG),
        ("file/a", errno.ENOTDIR),
        ("file/no/such/a", errno.ENOTDIR),
    ],
)
@needs_posix
def test_what_cannot_be_written_is_known_before(tmp_path, place, number):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    if number:
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            check_place(tmp_path / place)
        assert caught.value.errno == number
    else:
        check_place(tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "file", tmp_path / "folder"]
    assert (tmp_path / "file").read_text() == "old"
    with (
        pytest.raises(OSError, match="a")
        if number or place == "folder"
        else contextlib.nullcontext()
    ):
        write(tmp_path / place)  # would have found the same


def test_a_folder_in_which_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied", f"{dir}/tmp123")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(PermissionError) as caught:
        check_place(tmp_path / "no" / "such")
    assert caught.value.filename == str(tmp_path)


# ---------------------------------------------------------------------------------------------
# Locks.

HOLDS = """
import sys
from topo_utils.files import locked
with locked(sys.argv[1]):
    print("holds", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder):
    """Another process that holds the lock on a folder until its stdin is closed."""
    Path(folder).mkdir(exist_ok=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            assert process.stdout.readline() == "holds\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("end", ["done", "killed"])
def test_the_second_waits_until_the_first_has_ended(tmp_path, end):
    said, worked = [], []

    def second():
        with locked(tmp_path, say=lambda line, **_: said.append(line)):
            worked.append((tmp_path / ".lock.pid").read_text())

    with holder(tmp_path) as first:
        thread = threading.Thread(target=second)
        thread.start()
        assert wait_until(lambda: said)
        assert not worked
        first.kill() if end == "killed" else first.stdin.close()
        thread.join()
    assert said == [
        f"process {first.pid} is at work in {tmp_path}: waiting until it is done",
    ]
    assert worked == [str(os.getpid())]
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_without_a_folder_or_the_right_to_write_there_is_no_lock(tmp_path, monkeypatch):
    with locked(tmp_path / "none"):
        assert not (tmp_path / "none").exists()
    import filelock

    def refuse(*_, **__):
        raise PermissionError(errno.EROFS, "Read-only file system", "x")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())


PROFILE = ["profile", "--model", "efficientnet_lite0", "--images", "digits", "--n-images", "1"]


@pytest.mark.parametrize(
    ("arguments", "place", "folder"),
    [
        (["book"], "topo_utils.book.run.complete_last", "_build"),
        (["links"], "topo_utils.book.links.check_internal_links", "_build"),
        (["pdf"], "topo_utils.book.pdf.write_pdf", "_build"),
        ([*PROFILE, "--size", "32", "-o", "out"], "topo_utils.book.Project.run", "out"),
    ],
)
def test_a_command_waits_for_another_one(monkeypatch, capsys, tmp_path, arguments, place, folder):
    from test_book import make_project

    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = []

    def run(*_, **__):
        ran.append(arguments)
        raise BookError("it ran", "Nothing")

    monkeypatch.setattr(place, run)
    codes, out = [], ""

    def waits():
        nonlocal out
        out += capsys.readouterr().out
        return "waiting until it is done" in out or codes

    with holder(tmp_path / folder) as first:
        thread = threading.Thread(target=lambda: codes.append(main(arguments)))
        thread.start()
        assert wait_until(waits)
        assert (ran, codes) == ([], [])
        first.stdin.close()
        thread.join()
    assert (ran, codes) == ([arguments], [1])
    line = f"process {first.pid} is at work in {tmp_path / folder}: waiting until it is done\n"
    assert out.endswith(line)


# ---------------------------------------------------------------------------------------------
# Everywhere.

WRITES = re.compile(
    r"((^|\.)(write_(text|bytes|html|image)|to_(csv|excel|netcdf|parquet|pickle|zarr)|savefig|"
    r"save_file|imsave)|^(json|pickle|joblib)\.dump|^(torch|np)\.save\w*|^nbformat\.write|"
    r"^shutil\.(copy|copy2|copyfile|copytree|move))$"
)
MODE = re.compile(r"['\"][rbt]*[wax+][rbt+]*['\"]")


def written_in_place(source):
    """Where a file is written under its own name, and not by `replacing`."""

    def look(node, safe):
        if isinstance(node, ast.With):
            safe = safe or any("replacing(" in ast.unparse(item) for item in node.items)
        if isinstance(node, ast.Call) and not safe:
            function, said = ast.unparse(node.func), ast.unparse(node)
            opened = function.endswith("open") and MODE.search(said) and "os.devnull" not in said
            if opened or WRITES.search(function):
                yield said
        for child in ast.iter_child_nodes(node):
            yield from look(child, safe)

    return list(look(ast.parse(source), False))


@pytest.mark.parametrize("sources", ["topo_utils/**/*.py", "notebooks/*.py"])
def test_no_file_is_written_in_place(sources):
    found = {
        file.name: calls
        for file in ROOT.glob(sources)
        if (calls := written_in_place(file.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_what_is_written_in_place_is_found():
    calls = ["table.to_csv(a)", "Path(a).write_text('b')", "open(a, 'w')", "a.open(mode='rb+')"]
    calls += ["torch.save(a, b)", "shutil.copytree(a, b)", "nbformat.write(a, b)"]
    safe = "with replacing(x) as part:\n    "
    for call in calls:
        assert written_in_place(call) == [call]
        assert written_in_place(safe + call) == []
    assert written_in_place("open(a, 'rb'); a.read_text(); save(a); open('wax')") == []


def test_no_test_waits_a_fixed_time():
    """But for `wait_until` in conftest.py, which looks again and again."""
    waits = re.compile(r"(wait_for_timeout|sleep|Timer)\(")
    sources = {file.name: file.read_text("utf-8") for file in (ROOT / "tests").glob("*.py")}
    assert {name for name, source in sources.items() if waits.search(source)} == {"conftest.py"}
