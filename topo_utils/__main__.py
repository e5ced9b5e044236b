"""The command line: ``topobook`` or ``python -m topo_utils``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from topo_utils.book import BookError, Project, _finding, format_number


def main(arguments=None):
    """Run the command line; returns the exit code (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    parser = argparse.ArgumentParser(
        prog="topobook",
        description="Run chapters of the book with your own parameters, or build it.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute one chapter")
    run.add_argument("chapter", metavar="CHAPTER", help="a name that `topobook list` shows")
    run.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of the chapter; lists as '[0, 0.5]'",
    )
    run.add_argument("-o", dest="out", metavar="OUT", help="executed notebook (.ipynb) or a folder")

    book = commands.add_parser("book", help="execute all chapters and build the book")
    for command in (run, book):
        command.add_argument(
            "--preset",
            default="default",
            help="smoke, default or paper (see notebooks/presets.yml)",
        )
    commands.add_parser("list", help="show the chapters and their parameters")

    options = parser.parse_args(arguments)
    try:
        project = Project()
        if options.command == "run":
            _run(project, options)
        elif options.command == "book":
            project.build_book(options.preset)
        else:
            _list(project)
    except BookError as error:
        print(f"topobook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("topobook: stopped", file=sys.stderr)
        return 130
    return 0


def _run(project, options):
    parameters = project.resolve(options.chapter, options.preset, options.parameters)
    out = Path(options.out or project.build / "runs")
    if out.suffix != ".ipynb":
        if out.suffix and not out.is_dir():
            raise BookError(f"-o {out}: accepted: a notebook (.ipynb) or a folder")
        out = out / f"{options.chapter}.ipynb"
    finding = _finding(project.run(options.chapter, parameters, out))
    if finding:
        print(f"{finding['verdict']}: {finding['reason']}")
        for name, number in finding["numbers"].items():
            print(f"  {name.replace('_', ' ')}: {format_number(number)}")
    print(f"The executed notebook is {out}")


def _list(project):
    for chapter in project.chapters():
        title = project.read(chapter).cells[0].source.partition("\n")[0].lstrip("# ")
        print(f"{chapter}: {title}")
        for parameter in project.parameters(chapter).values():
            print(f"  {parameter.name}: {parameter.annotation} = {parameter.default!r}")
            print(f"      {parameter.meaning}")
    print(f"presets: {', '.join(project.presets())}")


if __name__ == "__main__":
    sys.exit(main())
