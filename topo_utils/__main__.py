"""The command line: ``topobook`` or ``python -m topo_utils``."""

from __future__ import annotations

import argparse
import ast
import errno
import logging
import math
import os
import re
import shutil
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
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
    refuse_repeated,
    whole_folder,
)
from topo_utils.files import locked, replacing


class _Stopped(KeyboardInterrupt):
    """A signal other than that of Ctrl-C, whose number it has."""


@contextmanager
def _stopped_by_signals():
    """Let SIGTERM, and SIGHUP of a terminal that is closed, stop what is done as Ctrl-C does."""

    def stop(number, _):
        for each in before:  # what is tidied up now is not to be stopped
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
            number = getattr(signal, name)
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@_stopped_by_signals()
def main(arguments=None):
    """Run the command line; returns the exit code.

    0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    """
    # Else a file of the current folder takes a library's place in every Python that is started.
    os.environ["PYTHONSAFEPATH"] = "1"
    with _outputs():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


class _Output:
    """A stream that takes every character, and leaves to another what it cannot write itself."""

    def __init__(self, stream, other=None):
        self.stream, self.other = stream, other
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text):
        try:
            if self.stream is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self.stream.write(text)
            self.stream.flush()  # not at exit, where it is too late for what follows
        except OSError as error:
            if self.stream is not None:  # which tries once more at exit
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if self.other is None:
                error.filename = "standard output"
                raise
            self.stream, self.other = self.other, None
            self.write(text)
        return len(text)

    def flush(self):
        """Nothing is kept back."""

    def __getattr__(self, name):
        return getattr(self.stream, name)


@contextmanager
def _outputs():
    """Streams that do not stop the work: standard error loses what it cannot write."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file would get this number, and what others print
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stderr(_Output(sys.stderr or nowhere, nowhere)),
        redirect_stdout(_Output(sys.stdout)),
    ):
        yield


class _Parser(argparse.ArgumentParser):
    """One for which a negative number is a value however it is written, such as -1e-3 or -inf."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        number = re.compile(r"-(\.?\d|(inf|infinity|nan)$)", re.IGNORECASE)
        self._negative_number_matcher = number


def _dashed_values(arguments, command):
    """Take out every -p NAME VALUE whose value begins with a dash and is no option of a command.

    Returns the other arguments, and the names and values.
    """
    rest, taken, at = list(arguments), [], 0
    while at + 2 < len(rest):
        flag, name, value = rest[at : at + 3]
        start = value.partition("=")[0]
        options = [known for known in command._option_string_actions if known.startswith(start)]
        if flag == "-p" and value.startswith("-") and not options:
            taken.append((name, value))
            del rest[at : at + 3]
        else:
            at += 1
    return rest, taken


#: The least and the most that options with a number accept.
_COUNTS = {
    "epochs": (1, math.inf),
    "n_images": (1, math.inf),
    "seed": (0, 2**63 - 1),
    "size": (1, math.inf),
}


def _check_counts(options):
    """Refuse now a number that would be found out late."""
    for name, (least, most) in _COUNTS.items():
        value = getattr(options, name, None)
        if isinstance(value, int) and not least <= value <= most:
            raise BookError(
                f"--{name.replace('_', '-')} is {value}",
                f"Accepted: a number from {least}" + (f" to {most}" if most < math.inf else ""),
            )


def _main(arguments):
    parser = _Parser(
        prog="topobook",
        description="Run chapters of the book with your own parameters, or build it.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C, 143 by "
        "SIGTERM, 129 by SIGHUP",
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
            help="a parameter of the chapter; lists as '[0, 0.5]' or '[\"a\", \"b\"]', infinity as "
            "inf; a text is taken as it is, but for None where none is accepted",
        )
    path = {"type": os.path.expanduser}
    run.add_argument(
        "-o", dest="out", metavar="OUT", help="executed notebook (.ipynb) or a folder", **path
    )
    run.add_argument(
        "--html", metavar="DIR", help="also render the run as a page, in this folder", **path
    )
    compare = commands.add_parser("compare", help="which parameters and numbers of two runs differ")
    for name in ("a", "b"):
        compare.add_argument(name, metavar=name.upper(), help="an executed notebook", **path)

    sweep.add_argument(
        "--grid",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "VALUE"),
        help="a parameter and the values it takes; several make all combinations",
    )
    sweep.add_argument(
        "-o", dest="out", metavar="DIR", help="folder of the table and notebooks", **path
    )
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
        "folder", metavar="FOLDER", help="with the four .gz files of the data set", **path
    )
    pretrain.add_argument("-o", dest="out", metavar="DIR", default="_build/weights", **path)
    pretrain.add_argument("--epochs", type=int, default=3)
    pretrain.add_argument("--seed", type=int, default=0)
    commands.add_parser("list", help="show the chapters and their parameters")
    links = commands.add_parser("links", help="check the links of the built book and of README.md")
    links.add_argument("--external", action="store_true", help="also those to other sites")
    pdf = commands.add_parser("pdf", help="print the built book as one PDF")
    pdf.add_argument("-o", dest="out", metavar="OUT", help="the PDF, else _build/book.pdf", **path)

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
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    dashed = []
    if chosen in ("run", "sweep"):
        arguments, dashed = _dashed_values(arguments, commands.choices[chosen])
    options = parser.parse_args(arguments)
    if "list" not in (options.command, getattr(options, "action", "")) and options.command not in (
        "compare",
        "links",
    ):  # whose result is what they say
        sys.stdout.other = sys.stderr
    try:
        _check_counts(options)
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
        if options.command == "profile" or getattr(options, "html", None):
            project.check_config()  # for the page, which comes after the work
        if options.command in ("book", "links", "pdf") and not project.is_here():
            print(f"topobook: no book here: taken is the one in {project.root}", file=sys.stderr)
        if options.command == "run":
            options.parameters += dashed
            _run(project, options)
        elif options.command == "profile":
            _profile(project, options)
        elif options.command == "sweep":
            options.parameters += dashed
            return _sweep(project, options)
        elif options.command == "book":
            project.build_book(options.preset)
        elif options.command == "links":
            return _links(project, options)
        elif options.command == "pdf":
            _pdf(project, options)
        else:
            _list(project)
    except BrokenPipeError:  # of `topobook list | head`: nobody reads on, which is no error
        return 1
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            # At exit it would tell of each task that waited for a kernel.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            again = _STOPPED.get(options.command, "The same command begins again")
            print(f"topobook: stopped\n{again}", file=sys.stderr)
            return 128 + (error.args[0] if isinstance(error, _Stopped) else signal.SIGINT)
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
    errno.ENAMETOOLONG: "Name a shorter place: the system takes no name or path that is as long",
    errno.EISDIR: "A folder is where a file is needed: take it away, or name another place",
    errno.ENOENT: "See whether it is there (ls), and spelled as it should be",
    errno.EBADF: "It is closed: send the output to a file or to another program",
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
    executed = project.run(options.chapter, parameters, out)
    if finding := _finding(executed):
        print(f"{finding['verdict']}: {finding['reason']}")
        for name, number in finding["numbers"].items():
            print(f"  {name.replace('_', ' ')}: {format_number(number)}")
    print(f"The executed notebook is {out}")
    if options.html:
        print(f"The page is {project.write_page(executed, options.html)}")


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
    "Without an internet connection: --random-weights, --checkpoint FILE with weights of your own, "
    "or a network that comes with the package, such as efficientnet_lite0"
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
    from topo_utils.datasets import OUTPUT_MARK, check_n_images, check_size, printable
    from topo_utils.models import check_name

    out = Path(options.out or project.build / "profiles" / re.sub(r"\W+", "_", options.model))
    out = Path(os.path.realpath(os.path.expanduser(out)))
    if out.exists() and not out.is_dir():
        raise BookError(f"-o {out} is a file", "Name a folder, which need not be there yet")
    check_page_folder(out / "page")
    images = options.images
    folder = os.path.expanduser(images.removeprefix("folder:"))
    if (folder and images.startswith("folder:")) or os.path.isdir(folder):
        images = whole_folder(os.path.abspath(folder))
    elif images not in dataset_names():
        raise BookError(
            f"there is no folder {images}, and no data set of this name",
            f"Name a folder of pictures, or one of {', '.join(dataset_names())}",
        )
    checkpoint = options.checkpoint and str(Path(options.checkpoint).expanduser().resolve())
    weights = "random" if options.random_weights else "pretrained"

    # What can go wrong is found out here, before anything takes long.
    for option, text in (("-o", str(out)), ("--images", images), ("--checkpoint", checkpoint)):
        if text and text != text.encode(errors="replace").decode():
            raise BookError(
                f"{option} {printable(text)} is a name that is not UTF-8",
                "Give it another one (mv): it is written in the notebook, which is in UTF-8",
            )
    as_thresholds(options.thresholds)
    if options.size is not None:
        check_size(options.size)
    if options.n_images is not None:
        check_n_images(images, float("inf"), options.n_images)
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
        raise BookError(str(error).partition(" Without a")[0], _OFFLINE) from error
    finally:
        sys.stdin = stdin
    size = input_size(network) if options.size is None else options.size
    with _telling_warnings():
        pictures = open_images(images, size, options.n_images, options.seed, leave_out=out)
    named = None if options.blocks is None else model_blocks(network, options.blocks)
    if size > 4 * (usual := input_size(network)):  # the size of volumes goes with that of images
        volumes = block_shapes(network, usual, named)[0].values()
        largest = max((c * h * w for c, h, w in volumes), default=0)
        check_size(size, bytes_a_pixel=24 + 4 * largest // usual**2)
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
    marked = not out.exists() or Path(images.removeprefix("folder:")) in out.parents
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):  # all that lies there is of one run
        if marked:
            with replacing(out / OUTPUT_MARK) as part:
                part.write_text("topobook profile writes here: no picture below is read\n", "utf-8")
        executed = project.run("your_network", parameters, out / "your_network.ipynb")
        told = _results(executed)
        direction, beside, closest = (
            ast.literal_eval(told[name]) for name in ("direction", "beside_controls", "closest")
        )
        print(f"Complexity {direction}. {beside}. {closest}.")
        page = project.write_page(executed, out / "page")
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

    refuse_repeated(name for name, *_ in options.grid)
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
        with locked(project.build):  # a build that goes on replaces what is read here
            broken, checked = check(project)
        print(*broken, f"{checked} links {where}, {len(broken)} broken", sep="\n")
        failed = failed or bool(broken)
    return 1 if failed else 0


def _pdf(project, options):
    from topo_utils.pdf import write_pdf

    with locked(project.build):
        path, count = write_pdf(project, options.out)
    print(f"The book is at {path}, {count} pages")


def _pretrain(options):
    from topo_utils.candidates import pretrain

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
            print(f"  {parameter.name}: {parameter.type_} = {parameter.default!r}")
            print(f"      {parameter.meaning}")
    print(f"presets: {', '.join(project.presets())}")


if __name__ == "__main__":
    sys.exit(main())
