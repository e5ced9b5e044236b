"""Errors that say what was wrong and what to do."""

from __future__ import annotations

import errno
import re
import shutil
from importlib.metadata import requires
from importlib.util import find_spec

#: Modules whose package has a different name.
_PACKAGES = {"bs4": "beautifulsoup4", "dask": "distributed", "yaml": "pyyaml"}

_DEBUG = "--debug shows where it comes from, as a traceback"
#: What to do, by the number of a system's error.
_TODO = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "Free some space, for example with topobook cache prune 500MB, or write elsewhere (-o)",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Get the right to write there (chmod, chown), or name a different place with -o",
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR),
        "A file is where a folder is needed: take it away, or name a different place",
    ),
    errno.EISDIR: "A folder is where a file is needed: take it away, or name a different place",
    errno.ENAMETOOLONG: "Name a shorter place: the system takes no name or path of this length",
    errno.ENOENT: "Check that it is there (ls), and spelled right",
    errno.EBADF: "It is closed: send the output to a file or to a different program",
}


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


class UsageError(BookError):
    """What was typed, or asked for, cannot be: nothing has been run."""


def explained(error):
    """Any exception as a `BookError`."""
    if isinstance(error, shutil.Error):  # one entry (from, to, why) for each file of a folder
        error = OSError(error.args[0][0][2])
    match error:
        case BookError():
            return error
        case SystemExit():  # code of a user's own network may end the program when it is imported
            todo = "Take what ends the program (sys.exit, argparse) out of the network's code"
            return BookError(f"code that was called ended the program (exit code {error})", todo)
        case ModuleNotFoundError(name=str(module)):
            install = how_to_install(module) or f"Install it: {_DEBUG}"
            return BookError(f"{module} is not installed", install)
        case ConnectionError() | TimeoutError():
            todo = "Check that the network is up and the address is right"
            return BookError(str(error), todo)
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return BookError(f"{place}{error.strerror or error}", _TODO.get(error.errno, _DEBUG))
        case ValueError() | TypeError():
            # The package's own messages are "WHAT WAS WRONG; accepted: WHAT IS ACCEPTED".
            wrong, _, todo = str(error).partition("; ")
            if todo:
                return BookError(wrong, todo[0].upper() + todo[1:])
    return BookError(f"{type(error).__name__}: {error}", _DEBUG)


def how_to_install(module):
    """The command that installs a module that the project uses; None for any other.

    Parameters
    ----------
    module : str
        Its name as it is imported.
    """
    top = module.partition(".")[0]
    package = _PACKAGES.get(top, top.replace("_", "-")).lower()
    for requirement in requires("topo_utils") or []:
        name, extra = re.match(r"([\w.-]+).*?(?:extra == .(\w+).)?$", requirement).groups()
        if name.lower().replace("_", "-") == package and extra:
            return f"pip install 'topo_utils[{extra}]'"
    return None


def require(module):
    """Raise now the ModuleNotFoundError that a process of its own would raise later."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
