"""The command line: ``topobook`` or ``python -m topo_utils``."""

from __future__ import annotations

import argparse
import ast
import errno
import logging
import os
import re
import shutil
import sys
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

from topo_utils.book import (
    BookError,
    Project,
    _finding,
    _results,
    check_page_folder,
    compare_runs,
    format_number,
    how_to_install,
    whole_folder,
)


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

    _add_profile(commands)
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

    for command in (*commands.choices.values(), *actions.choices.values()):
        # Without a default, which would go over what stands before the subcommand.
        command.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )
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
        # Code of the user's own, module:callable, is found from where the command is typed.
        os.environ.setdefault("TOPO_UTILS_CODE", os.getcwd())
        if options.command == "run":
            _run(project, options)
        elif options.command == "profile":
            _profile(project, options)
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
        sys.stdout.flush()  # not at exit, where it is too late for what follows
    except BrokenPipeError:  # of `topobook list | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            # At exit it would tell of each task that waited for a kernel.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            again = _STOPPED.get(options.command, "The same command begins again")
            print(f"topobook: stopped\n{again}", file=sys.stderr)
            return 130
        print(f"topobook: {_explained(error)}", file=sys.stderr)
        return 1
    return 0


#: What Ctrl-C leaves, by subcommand.
_STOPPED = {
    "book": "The last good book is still in place, and the chapters that were finished are kept: "
    "the same command goes on from there",
    "sweep": "The runs that were finished are kept: the same command goes on from there",
    "run": "A notebook is written when it is complete: one that was there before is as it was",
    "profile": "Profiles that were finished are kept in the cache: the same command goes on from "
    "there",
    "pretrain": "The weights that were finished are kept, without their table: the same command "
    "makes all of them again",
}

_NO_PLACE = "Free some space, for one with topobook cache prune 500MB, or write elsewhere (-o)"
_NO_RIGHT = "Ask for the right to it (chmod, chown), or name another place, to write to with -o"
_NO_FOLDER = "A file is where a folder is needed: take it away, or name another place"
_TODO = {
    errno.ENOSPC: _NO_PLACE,
    errno.EDQUOT: _NO_PLACE,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.EEXIST: _NO_FOLDER,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EISDIR: "A folder is where a file is needed: take it away, or name another place",
    errno.ENOENT: "See whether it is there (ls), and spelled as it should be",
}


def _explained(error):
    """Any error as one that says what to do."""
    debug = "--debug shows where it comes from, as a traceback"
    if isinstance(error, shutil.Error):  # of every file of a folder, as (from, to, why)
        error = OSError(error.args[0][0][2])
    match error:
        case BookError():
            return error
        case SystemExit():  # as code of a network may do when it runs
            todo = "Take what ends the program (sys.exit, argparse) out of the network's code"
            return BookError(f"code that was called ended the program (exit code {error})", todo)
        case ModuleNotFoundError(name=str(module)):
            install = how_to_install(module)
            return BookError(f"{module} is not installed", install or f"Install it: {debug}")
        case ConnectionError() | TimeoutError():
            return BookError(str(error), "See whether the network is up and the address is right")
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            todo = _TODO.get(error.errno, debug)
            return BookError(f"{place}{error.strerror or error}", todo)
        case ValueError() | TypeError():
            # Those of the package name what is accepted.
            if said := re.fullmatch(
                r"(.*?)[;:] ((accepted|needed|embedded|known): .*)", str(error), re.DOTALL
            ):
                return BookError(said[1], said[2][0].upper() + said[2][1:])
    return BookError(f"{type(error).__name__}: {error}", debug)


def _run(project, options):
    parameters = project.resolve(options.chapter, options.preset, options.parameters)
    out = Path(options.out or project.build / "runs")
    if out.suffix != ".ipynb":
        if out.is_file() or (out.suffix and not out.is_dir()):
            raise BookError(
                f"-o {out} is no notebook and no folder",
                "Accepted: a notebook (NAME.ipynb) or a folder, which need not be there yet",
            )
        out = out / f"{options.chapter}.ipynb"
    if out.is_dir():
        raise BookError(f"{out} is a folder", "Name a file that ends in .ipynb with -o")
    if options.html:
        check_page_folder(options.html)  # before the run, which may take long
    finding = _finding(project.run(options.chapter, parameters, out))
    if finding:
        print(f"{finding['verdict']}: {finding['reason']}")
        for name, number in finding["numbers"].items():
            print(f"  {name.replace('_', ' ')}: {format_number(number)}")
    print(f"The executed notebook is {out}")
    if options.html:
        print(f"The page is {project.write_page(out, options.html)}")


def _add_profile(commands):
    profile = commands.add_parser(
        "profile",
        help="measure a network of your own on images of your own",
        description="Measure a network on a folder of images: the profile (netCDF), a table (CSV), "
        "a figure (SVG), and a page that places it among the book's networks and its controls.",
    )
    add = profile.add_argument
    add(
        "--model",
        required=True,
        metavar="NAME",
        help="a network that `topo_utils.model_names()` lists, any other classifier of torchvision "
        "or timm, or module:callable, a function of yours without arguments that gives one",
    )
    add(
        "--images",
        required=True,
        metavar="FOLDER",
        help="a folder of pictures, or the name of a data set of the book",
    )
    add("--random-weights", action="store_true", help="untrained: needs no download")
    add("--checkpoint", metavar="FILE", help="its weights: .safetensors, or what torch.save wrote")
    add("--blocks", metavar="REGEX", help="measure the modules whose whole name this matches")
    add("--size", type=int, metavar="PIXELS", help="height and width to which images are resized")
    add("--n-images", type=int, metavar="N", help="as many, drawn at random")
    add(
        "--thresholds",
        nargs="+",
        type=float,
        default=[0.0],
        metavar="ETA",
        help="levels of the sublevel sets, in units of the activations (default: 0)",
    )
    add(
        "--compare-with",
        nargs="*",
        metavar="NAME",
        help="other networks than the book's three EfficientNet-Lites; without a NAME none",
    )
    add("--seed", type=int, default=0, help="of random weights, the draw and the shuffles")
    add("-o", dest="out", metavar="DIR", help="folder for what is made, else _build/profiles/NAME")


_OFFLINE = (
    "Without a network: --random-weights, --checkpoint FILE with weights of your own, or a network "
    "that comes with the package, such as efficientnet_lite0"
)


@contextmanager
def _telling_warnings():
    """Warnings in the form of the command's other messages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"topobook: warning: {warning.message}", file=sys.stderr)


def _profile(project, options):
    from topo_utils import (
        block_shapes,
        dataset_names,
        input_size,
        load_model,
        model_blocks,
        open_images,
    )
    from topo_utils.cubical import as_thresholds
    from topo_utils.models import check_name

    out = Path(options.out or project.build / "profiles" / re.sub(r"\W+", "_", options.model))
    out = out.expanduser().resolve()
    if out.exists() and not out.is_dir():
        raise BookError(f"-o {out} is a file", "Name a folder, which need not be there yet")
    check_page_folder(out / "page")
    images = options.images
    if Path(images).expanduser().is_dir() or images.startswith("folder:"):
        images = whole_folder(images.removeprefix("folder:"))
    elif images not in dataset_names():
        raise BookError(
            f"there is no folder {images}, and no data set of this name",
            f"Name a folder of pictures, or one of {', '.join(dataset_names())}",
        )
    checkpoint = options.checkpoint and str(Path(options.checkpoint).expanduser().resolve())
    weights = "random" if options.random_weights else "pretrained"

    # What can go wrong is found out here, before anything takes long.
    as_thresholds(options.thresholds)
    for name in options.compare_with or ():
        check_name(name)
    print(f"loading {options.model}")
    stdin = sys.stdin
    try:
        # Code of the user's own that asks for something is told that nobody answers.
        with _telling_warnings(), open(os.devnull, encoding="utf-8") as sys.stdin:
            network = load_model(
                options.model, weights=weights, seed=options.seed, checkpoint=checkpoint
            )
    except ConnectionError as error:
        raise BookError(str(error).partition(" Without a network")[0], _OFFLINE) from error
    finally:
        sys.stdin = stdin
    size = input_size(network) if options.size is None else options.size
    with _telling_warnings():
        pictures = open_images(images, size, options.n_images, options.seed)
    named = None if options.blocks is None else model_blocks(network, options.blocks)
    shapes, left_out = block_shapes(network, size, named)
    for why in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name in left_out if left_out[name] == why)
        print(f"topobook: warning: left out, since it {why}: {names}", file=sys.stderr)
    if len(shapes) < 2:
        raise BookError(
            f"{options.model} has {len(shapes)} blocks that can be measured; a curve needs two",
            "Name modules with --blocks REGEX; among their names are "
            + ", ".join([name for name, _ in network.named_modules() if name][:8]),
        )
    print(f"{options.model} ({network.weights_name}): {len(shapes)} blocks at {size} pixels")
    counted = f"{len(pictures)} image{'s' if len(pictures) > 1 else ''}"
    print(f"{counted} of {images.removeprefix('folder:')}")

    parameters = {
        "model": options.model,
        "weights": weights,
        "checkpoint": checkpoint,
        "blocks": options.blocks,
        "dataset": images,
        "n_images": options.n_images,
        "image_size": size,
        "thresholds": options.thresholds,
        "save_to": str(out),
        "seed": options.seed,
    }
    if options.compare_with is not None:
        parameters["compare_with"] = options.compare_with
    notebook = out / "your_network.ipynb"
    told = _results(project.run("your_network", parameters, notebook))
    direction, beside, closest = (
        ast.literal_eval(told[name]) for name in ("direction", "beside_controls", "closest")
    )
    print(f"Complexity {direction}. {beside}. {closest}.")
    page = project.write_page(notebook, out / "page")
    for file, what in (
        (out / "profile.nc", "Betti numbers by image, block, threshold and degree"),
        (out / "profile.csv", "their means by block, with the controls"),
        (out / "profile.svg", "the figure; controls.svg beside it"),
        (page, "the page"),
    ):
        print(f"{file}: {what}")


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

    if options.epochs < 1:
        raise BookError(f"--epochs {options.epochs} trains nothing", "Accepted: a number from 1")
    pretrain(options.folder, options.out, epochs=options.epochs, seed=options.seed)
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
        raise BookError(
            f"no size: {text!r}", f"Accepted: a number with {', '.join(_UNITS)}, such as 500MB"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def _size(count):
    """Bytes as text."""
    unit = next((u for u in reversed(_UNITS) if count >= _UNITS[u]), "B")
    return f"{count / _UNITS[unit]:.3g} {unit}"


def _list(project):
    for chapter in project.chapters():
        declared = project.parameters(chapter)
        title = project.read(chapter).cells[0].source.partition("\n")[0].lstrip("# ")
        print(f"{chapter}: {title}")
        for parameter in declared.values():
            print(f"  {parameter.name}: {parameter.annotation} = {parameter.default!r}")
            print(f"      {parameter.meaning}")
    print(f"presets: {', '.join(project.presets())}")


if __name__ == "__main__":
    sys.exit(main())
