"""The command line: ``topobook`` or ``python -m topo_utils``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from topo_utils.book import BookError, Project, _finding, compare_runs, format_number


def main(arguments=None):
    """Run the command line; returns the exit code (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    parser = argparse.ArgumentParser(
        prog="topobook",
        description="Run chapters of the book with your own parameters, or build it.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute one chapter")
    sweep = commands.add_parser("sweep", help="execute one chapter over a grid of parameters")
    for command in (run, sweep):
        command.add_argument("chapter", metavar="CHAPTER", help="a name that `topobook list` shows")
        command.add_argument(
            "-p",
            dest="parameters",
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "VALUE"),
            help="a parameter of the chapter; lists as '[0, 0.5]'",
        )
    run.add_argument("-o", dest="out", metavar="OUT", help="executed notebook (.ipynb) or a folder")

    run.add_argument("--html", metavar="DIR", help="also render the run as a page, in this folder")
    compare = commands.add_parser("compare", help="which parameters and numbers of two runs differ")
    for name in ("a", "b"):
        compare.add_argument(name, metavar=name.upper(), help="an executed notebook")

    sweep.add_argument(
        "--grid",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "VALUE"),
        help="a parameter and the values it takes; several make all combinations",
    )
    sweep.add_argument("-o", dest="out", metavar="DIR", help="folder of the table and notebooks")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once, here")
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on this Dask cluster instead")

    book = commands.add_parser("book", help="execute all chapters and build the book")
    for command in (run, sweep, book):
        command.add_argument(
            "--preset",
            default="default",
            help="smoke, default or paper (see notebooks/presets.yml)",
        )
    pretrain = commands.add_parser(
        "pretrain", help="make the weights of the small networks again, from Fashion-MNIST"
    )
    pretrain.add_argument(
        "folder", metavar="FOLDER", help="with the four .gz files of the data set"
    )
    pretrain.add_argument("-o", dest="out", metavar="DIR", default="_build/weights")
    pretrain.add_argument("--epochs", type=int, default=3)
    pretrain.add_argument("--seed", type=int, default=0)
    commands.add_parser("list", help="show the chapters and their parameters")
    links = commands.add_parser("links", help="check the links of the built book and of README.md")
    links.add_argument("--external", action="store_true", help="also those to other sites")
    pdf = commands.add_parser("pdf", help="print the built book as one PDF")
    pdf.add_argument("-o", dest="out", metavar="OUT", help="the PDF, else _build/book.pdf")

    cache = commands.add_parser("cache", help="what is kept on disk so as not to be computed twice")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show what is kept")
    prune = actions.add_parser("prune", help="remove what was not used for longest")
    prune.add_argument("size", metavar="SIZE", help="how much may stay, such as 500MB")
    actions.add_parser("clear", help="remove everything")

    options = parser.parse_args(arguments)
    try:
        if options.command == "cache":
            _cache(options)
            return 0
        if options.command == "pretrain":
            _pretrain(options)
            return 0
        if options.command == "compare":
            _compare(options)
            return 0
        project = Project()
        if options.command == "run":
            _run(project, options)
        elif options.command == "sweep":
            return _sweep(project, options)
        elif options.command == "book":
            project.build_book(options.preset)
        elif options.command == "links":
            return _links(project, options)
        elif options.command == "pdf":
            _pdf(project, options)
        else:
            _list(project)
    except BookError as error:
        if options.debug:
            raise
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
    if options.html:
        print(f"The page is {project.write_page(out, options.html)}")


def _compare(options):
    for what, found in compare_runs(options.a, options.b).items():
        print(f"{what} that differ:" if found else f"{what}: the same")
        for name, (a, b) in found.items():
            print(f"  {name}: {a} -> {b}")


def _sweep(project, options):
    from topo_utils.sweep import sweep

    values = {name: texts for name, *texts in options.grid}
    out = Path(options.out or project.build / "sweeps" / options.chapter)
    table = sweep(
        project,
        options.chapter,
        values,
        out,
        preset=options.preset,
        texts=options.parameters,
        n_jobs=options.jobs,
        scheduler=options.scheduler,
    )
    failed = int((table["error"] != "").sum())
    print(f"{len(table)} runs, {failed} failed; the table is {out / 'results.csv'}")
    return 1 if failed else 0


def _links(project, options):
    from topo_utils.links import check_external_links, check_internal_links

    checks = {"inside the book and README.md": check_internal_links}
    if options.external:
        checks["to other sites"] = check_external_links
    failed = False
    for where, check in checks.items():
        broken, checked = check(project)
        print(*broken, f"{checked} links {where}, {len(broken)} broken", sep="\n")
        failed = failed or bool(broken)
    return 1 if failed else 0


def _pdf(project, options):
    from topo_utils.pdf import write_pdf

    path, count = write_pdf(project, options.out)
    print(f"The book is at {path}, {count} pages")


def _pretrain(options):
    from topo_utils.candidates import pretrain

    try:
        pretrain(options.folder, options.out, epochs=options.epochs, seed=options.seed)
    except ValueError as error:
        raise BookError(str(error)) from error
    print(f"The weights are in {options.out}; those of the package are in topo_utils/weights")


def _cache(options):
    from topo_utils.store import cache_folder, list_cache, prune_cache

    folder = cache_folder()
    if folder is None:
        print("nothing is kept: TOPO_UTILS_CACHE=off")
    elif options.action == "list":
        table = list_cache()
        for kind, files in table.groupby("kind", sort=False):
            print(f"{kind}: {len(files)} files, {_size(files['bytes'].sum())}")
            for what, part in files.groupby("what", sort=False):
                used = f"{part['used'].max():%Y-%m-%d %H:%M}"
                print(f"  {used}  {_size(part['bytes'].sum()):>8}  {what}")
        print(f"{_size(table['bytes'].sum())} in {folder}")
    else:
        size = 0 if options.action == "clear" else _bytes(options.size)
        files, freed = prune_cache(size)
        print(f"removed {files} files, {_size(freed)}, from {folder}")


_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(text):
    """A size as typed, such as 500MB, in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?B)", text)
    if not match:
        raise BookError(f"no size: {text!r}; accepted: a number with {', '.join(_UNITS)}: 500MB")
    return int(float(match[1]) * _UNITS[match[2]])


def _size(count):
    """Bytes as text."""
    unit = next((u for u in reversed(_UNITS) if count >= _UNITS[u]), "B")
    return f"{count / _UNITS[unit]:.3g} {unit}"


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
