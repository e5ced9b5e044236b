"""The command line: ``topobook`` or ``python -m topo_utils``."""

from __future__ import annotations

import argparse
import errno
import logging
import math
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from topo_utils.book import Project, compare_runs
from topo_utils.book.chapters import refuse_repeated, refuse_undecoded, whole_folder
from topo_utils.book.errors import BookError, UsageError, explained
from topo_utils.book.findings import finding, format_number, prose
from topo_utils.book.pages import check_page_folder
from topo_utils.files import locked, replacing

# ---------------------------------------------------------------------------------------------
# Signals, and streams that cannot be written to.


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
def _safe_streams():
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


@contextmanager
def _warnings_as_messages():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            _warn(warning.message)


def _warn(message):
    print(f"topobook: warning: {message}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------
# What may be typed.

_EXIT_CODES = (
    "exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C, 143 by SIGTERM, 129 by "
    "SIGHUP"
)


class _Parser(argparse.ArgumentParser):
    """One for which a negative number is a value however it is written, such as -1e-3 or -inf."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        number = re.compile(r"-(\.?\d|(inf|infinity|nan)$)", re.IGNORECASE)
        self._negative_number_matcher = number


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
            raise UsageError(
                f"--{name.replace('_', '-')} is {value}",
                f"Accepted: a number from {least}" + (f" to {most}" if most < math.inf else ""),
            )


def _parser():
    """The parser, and by name the parser of each subcommand."""
    parser = _Parser(
        prog="topobook",
        description="Run chapters of the book with your own parameters, or build it.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    path = {"type": os.path.expanduser}

    def command(do, name, help_, **options):
        added = commands.add_parser(name, help=help_, **options)
        added.set_defaults(do=do)
        return added, added.add_argument

    _, add_run = command(_run, "run", "execute one chapter")
    sweep, add_sweep = command(_sweep, "sweep", "execute one chapter over a grid of parameters")
    for add in (add_run, add_sweep):
        add("chapter", metavar="CHAPTER", help="a name that `topobook list` shows")
        add(
            "-p",
            dest="parameters",
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "VALUE"),
            help="a parameter of the chapter; lists as '[0, 0.5]' or '[\"a\", \"b\"]', infinity as "
            "inf; a text is taken as it is, but for None where none is accepted",
        )
    add_run("-o", dest="out", metavar="OUT", help="executed notebook (.ipynb) or a folder", **path)
    add_run("--html", metavar="DIR", help="also render the run as a page, in this folder", **path)
    add_run("--force", action="store_true", help="execute it also if nothing changed")
    add_sweep(
        "--grid",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "VALUE"),
        help="a parameter and the values it takes; several make all combinations",
    )
    add_sweep("-o", dest="out", metavar="DIR", help="folder of the table and notebooks", **path)
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once, here")
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on this Dask cluster instead")

    _, add = command(_compare, "compare", "which parameters and numbers of two runs differ")
    for name in ("a", "b"):
        add(name, metavar=name.upper(), help="an executed notebook", **path)

    _, add = command(
        _profile,
        "profile",
        "measure a network of your own on images of your own",
        description="Measure a network on a folder of images: the profile (netCDF), a table (CSV), "
        "a figure (SVG), and a page that places it among the book's networks and its controls.",
    )
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
    add("--size", type=int, metavar="PIXELS", help="height and width of the resized images")
    add("--n-images", type=int, metavar="N", help="this many, drawn at random")
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
        help="different networks than the book's three EfficientNet-Lites; without a NAME none",
    )
    add("--seed", type=int, default=0, help="of random weights, the draw and the shuffles")
    add("-o", dest="out", metavar="DIR", help="folder for what is made, else _build/profiles/NAME")

    _, add_book = command(_book, "book", "execute all chapters and build the book")
    add_book("--force", action="store_true", help="execute all chapters, also those unchanged")
    for add in (add_run, add_sweep, add_book):
        add("--preset", default="default", help="smoke, default, ... (see notebooks/presets.yml)")

    _, add = command(
        _pretrain, "pretrain", "make the weights of the small networks again, from Fashion-MNIST"
    )
    add("folder", metavar="FOLDER", help="with the four .gz files of the data set", **path)
    add("-o", dest="out", metavar="DIR", default="_build/weights", **path)
    add("--epochs", type=int, default=3)
    add("--seed", type=int, default=0)

    _, add = command(_new, "new", "write a chapter that runs, to be filled with your own finding")
    add("chapter", metavar="NAME", help="of the chapter: letters, digits and underscores")
    add("--title", metavar="TEXT", help="its heading")
    command(_list, "list", "show the chapters and their parameters")
    _, add = command(_links, "links", "check the links of the built book and of README.md")
    add("--external", action="store_true", help="also those to other sites")
    _, add = command(_pdf, "pdf", "print the built book as one PDF")
    add("-o", dest="out", metavar="OUT", help="the PDF, else _build/book.pdf", **path)

    cache, _ = command(_cache, "cache", "what is kept on disk so as not to be computed twice")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show what is kept")
    prune = actions.add_parser("prune", help="remove what was not used for longest")
    prune.add_argument("size", metavar="SIZE", help="how much may stay, such as 500MB")
    actions.add_parser("clear", help="remove everything")

    for added in (*commands.choices.values(), *actions.choices.values()):
        # Without a default, which would go over what stands before the subcommand.
        silent = {"default": argparse.SUPPRESS, "help": "show the traceback of an error"}
        added.add_argument("--debug", action="store_true", **silent)
    return parser, commands.choices


def _dashed_values(arguments, command):
    """Take out every -p NAME VALUE whose value begins with a dash and is no option of a command.

    Returns the arguments that are left, and the names and values.
    """
    rest, taken, at = list(arguments), [], 0
    while at + 2 < len(rest):
        flag, name, value = rest[at : at + 3]
        start = value.partition("=")[0]
        options = [known for known in command._option_string_actions if known.startswith(start)]
        if flag == "-p" and value.startswith("-") and not options:
            taken.append([name, value])
            del rest[at : at + 3]
        else:
            at += 1
    return rest, taken


# ---------------------------------------------------------------------------------------------


#: What Ctrl-C leaves, by subcommand.
_LEFT = {
    "book": "The last good book is still in place, and the chapters that were finished are kept: "
    "the same command goes on from there",
    "sweep": "The runs that were finished are kept: the same command goes on from there",
    "run": "A notebook is written when it is complete: one that was there before is as it was",
    "profile": "Profiles that were finished are kept in the cache: the same command goes on from "
    "there",
    "pretrain": "The weights that were finished are kept, without their table: the same command "
    "makes all of them again",
}


@_stopped_by_signals()
def main(arguments=None):
    """Run the command line; returns the exit code.

    0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    """
    # Else a file of the current folder takes a library's place in every Python that is started.
    os.environ["PYTHONSAFEPATH"] = "1"
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with _safe_streams():
        parser, commands = _parser()
        chosen = next((word for word in arguments if not word.startswith("-")), None)
        dashed = []
        if chosen in ("run", "sweep"):
            arguments, dashed = _dashed_values(arguments, commands[chosen])
        options = parser.parse_args(arguments)
        if dashed:
            options.parameters = options.parameters + dashed
        lists = options.command in ("list", "compare", "links")  # whose result is what they say
        if not lists and getattr(options, "action", "") != "list":
            sys.stdout.other = sys.stderr
        try:
            _check_counts(options)
            return options.do(options) or 0
        except BrokenPipeError:  # of `topobook list | head`: nobody reads on, which is no error
            return 1
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if options.debug:
                traceback.print_exc()
            if isinstance(error, KeyboardInterrupt):
                # At exit it would tell of each task that waited for a kernel.
                logging.getLogger("asyncio").setLevel(logging.CRITICAL)
                again = _LEFT.get(options.command, "The same command begins again")
                print(f"topobook: stopped\n{again}", file=sys.stderr)
                return 128 + (error.args[0] if isinstance(error, _Stopped) else signal.SIGINT)
            print(f"topobook: {explained(error)}", file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1


def _project(options, page=False):
    """The project, or an error before anything takes long if a page could not be made of it."""
    project = Project()
    # Code of the user's own, module:callable, is found from where the command is typed.
    os.environ.setdefault("TOPO_UTILS_CODE", os.getcwd())
    if page:
        project.check_config()
    here = Path.cwd().resolve().is_relative_to(project.root)
    if options.command in ("book", "links", "pdf") and not here:
        print(f"topobook: no book here: taken is the one in {project.root}", file=sys.stderr)
    return project


def _run(options):
    project = _project(options, page=options.html)
    parameters = project.resolve(options.chapter, options.preset, options.parameters)
    out = Path(options.out or project.build / "runs")
    if out.suffix != ".ipynb":
        if out.is_file() or (out.suffix and not out.is_dir()):
            raise UsageError(
                f"-o {out} is no notebook and no folder",
                "Accepted: a notebook (NAME.ipynb) or a folder, which need not be there yet",
            )
        out = out / f"{options.chapter}.ipynb"
    if out.is_dir():
        raise UsageError(f"{out} is a folder", "Name a file that ends in .ipynb with -o")
    if options.html:
        check_page_folder(options.html)  # before the run, which may take long
    executed, fresh = project.run_once(options.chapter, parameters, out, force=options.force)
    if not fresh:
        print("unchanged since its last run (--force executes it again)")
    if found := finding(executed):
        print(f"{found['verdict']}: {found['reason']}")
        for name, number in found["numbers"].items():
            print(f"  {name.replace('_', ' ')}: {format_number(number)}")
    print(f"The executed notebook is {out}")
    if options.html:
        print(f"The page is {project.write_page(executed, options.html)}")


_OFFLINE = (
    "Without an internet connection: --random-weights, --checkpoint FILE with weights of your own, "
    "or a network that comes with the package, such as efficientnet_lite0"
)


def _profile(options):
    """Find out what can go wrong before anything takes long, then run the chapter."""
    project = _project(options, page=True)
    from topo_utils import (
        block_shapes,
        dataset_names,
        input_size,
        load_model,
        model_blocks,
        open_images,
    )
    from topo_utils.cubical import as_thresholds
    from topo_utils.datasets import OUTPUT_MARK, check_n_images, check_size
    from topo_utils.models import check_name

    out = Path(options.out or project.build / "profiles" / re.sub(r"\W+", "_", options.model))
    out = Path(os.path.realpath(os.path.expanduser(out)))
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out} is a file", "Name a folder, which need not be there yet")
    check_page_folder(out / "page")
    images = options.images
    folder = os.path.expanduser(images.removeprefix("folder:"))
    if (folder and images.startswith("folder:")) or os.path.isdir(folder):
        images = whole_folder(os.path.abspath(folder))
    elif images not in dataset_names():
        raise UsageError(
            f"there is no folder {images}, and no data set of this name",
            f"Name a folder of pictures, or one of {', '.join(dataset_names())}",
        )
    checkpoint = options.checkpoint and str(Path(options.checkpoint).expanduser().resolve())
    weights = "random" if options.random_weights else "pretrained"
    for text in (str(out), images, checkpoint):
        refuse_undecoded(text)
    try:
        as_thresholds(options.thresholds)
        if options.size is not None:
            check_size(options.size)
        if options.n_images is not None:
            check_n_images(images, math.inf, options.n_images)
        for name in (options.model, *(options.compare_with or ())):
            check_name(name)
    except ValueError as error:
        raise UsageError(*explained(error).args) from error

    print(f"loading {options.model}")
    stdin = sys.stdin
    try:
        # Code of the user's own that asks for something is told that nobody answers.
        with _warnings_as_messages(), open(os.devnull, encoding="utf-8") as sys.stdin:
            network = load_model(
                options.model, weights=weights, seed=options.seed, checkpoint=checkpoint
            )
    except ConnectionError as error:
        raise BookError(str(error).partition(" Without a")[0], _OFFLINE) from error
    finally:
        sys.stdin = stdin
    size = input_size(network) if options.size is None else options.size
    with _warnings_as_messages():
        pictures = open_images(images, size, options.n_images, options.seed, leave_out=out)
    named = None if options.blocks is None else model_blocks(network, options.blocks)
    if size > 4 * (usual := input_size(network)):  # the size of volumes goes with that of images
        volumes = block_shapes(network, usual, named)[0].values()
        largest = max((c * h * w for c, h, w in volumes), default=0)
        check_size(size, bytes_a_pixel=24 + 4 * largest // usual**2)
    shapes, left_out = block_shapes(network, size, named)
    for why in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name in left_out if left_out[name] == why)
        _warn(f"left out, since it {why}: {names}")
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
        print(*prose(executed, "summary"), sep="\n")
        page = project.write_page(executed, out / "page")
    print(f"{out / 'profile.nc'}: Betti numbers by image, block, threshold and degree")
    print(f"{out / 'profile.csv'}: their means by block, with the controls")
    print(f"{out / 'profile.svg'}: the figure; controls.svg beside it")
    print(f"{page}: the page")


def _compare(options):
    for what, found in compare_runs(options.a, options.b).items():
        print(f"{what} that differ:" if found else f"{what}: the same")
        for name, (a, b) in found.items():
            print(f"  {name}: {a} -> {b}")


def _sweep(options):
    from topo_utils.book.sweep import sweep

    project = _project(options)
    refuse_repeated(name for name, *_ in options.grid)
    out = Path(options.out or project.build / "sweeps" / options.chapter)
    table = sweep(
        project,
        options.chapter,
        {name: texts for name, *texts in options.grid},
        out,
        preset=options.preset,
        texts=options.parameters,
        n_jobs=options.jobs,
        scheduler=options.scheduler,
    )
    failed = int((table["error"] != "").sum())
    print(f"{len(table)} runs, {failed} failed; the table is {out / 'results.csv'}")
    return 1 if failed else 0


def _book(options):
    _project(options).build_book(options.preset, force=options.force)


def _links(options):
    from topo_utils.book.links import check_external_links, check_internal_links

    project = _project(options)
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


def _pdf(options):
    from topo_utils.book.pdf import write_pdf

    project = _project(options)
    with locked(project.build):
        path, count = write_pdf(project, options.out)
    print(f"The book is at {path}, {count} pages")


def _pretrain(options):
    from topo_utils.weights.pretrain import pretrain

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
        accepted = f"Accepted: a number with {', '.join(_UNITS)}, such as 500MB"
        raise UsageError(f"no size: {text!r}", accepted)
    return int(float(match[1]) * _UNITS[match[2]])


def _size(count):
    """Bytes as text."""
    unit = next((u for u in reversed(_UNITS) if count >= _UNITS[u]), "B")
    return f"{count / _UNITS[unit]:.3g} {unit}"


def _new(options):
    file = _project(options).new_chapter(options.chapter, options.title)
    print(f"The chapter is {file}, at the end of _toc.yml: topobook run {options.chapter}")


def _list(options):
    project = _project(options)
    for chapter in project.chapters():
        print(f"{chapter}: {project.title(chapter)}")
        for parameter in project.parameters(chapter).values():
            print(f"  {parameter.name}: {parameter.type_} = {parameter.default!r}")
            print(f"      {parameter.meaning}")
    print(f"presets: {', '.join(project.presets())}")


if __name__ == "__main__":
    sys.exit(main())
