"""The versions that made the book, in constraints.txt.

`constraints.py renew`, with more arguments for pip, writes the newest that pyproject.toml allows;
`constraints.py newer` shows what is installed in another version.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"

#: Left to the platform: torch, which differs with the processor, and what only torch needs.
PLATFORM = re.compile(
    r"(torch|torchvision|triton|nvidia-.*|cuda-.*|sympy|mpmath|networkx|setuptools|pip|topo-utils)"
)

HEADER = """\
# The versions that made the book and passed the tests. `make install` takes these; `make install
# CONSTRAINTS=` takes the newest that pyproject.toml allows, and `make constraints` writes those
# here. torch, torchvision and what only they need are left to the platform.
"""


def renew(arguments):
    """Ask pip what it would install, into an environment of its own, and write that down."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        venv.create(Path(folder) / "venv", with_pip=True)
        python = Path(folder, "venv", "Scripts" if os.name == "nt" else "bin", "python")
        pip = [python, "-m", "pip", "install", "--quiet"]
        # Only a new pip knows versions without downloading the packages.
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        command = [*pip, "--dry-run", "--ignore-installed", "--report", report, *arguments]
        subprocess.run([*command, f"{ROOT}[all]"], check=True)
        FILE.write_text(constraints(json.loads(report.read_text("utf-8"))), encoding="utf-8")


def constraints(report):
    """The content of the file, from a report of pip."""
    found = [package["metadata"] for package in report["install"]]
    pins = {normal(data["name"]): data["version"].partition("+")[0] for data in found}
    lines = [f"{name}=={pins[name]}\n" for name in sorted(pins) if not PLATFORM.fullmatch(name)]
    return HEADER + "".join(lines)


def normal(name):
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read():
    """The pinned version by name."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def newer():
    """Print what is installed in another version than the one that is pinned."""
    for name, pinned in read().items():
        try:
            if (found := version(name)) != pinned:
                print(f"{name} {pinned} -> {found}")
        except PackageNotFoundError:
            pass  # only other platforms need it


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["renew", *arguments]:
            renew(arguments)
        case ["newer"]:
            newer()
        case _:
            sys.exit(__doc__)
