"""A chapter over a grid of parameters, here or on a Dask cluster, and one table of it all."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import joblib
import pandas as pd

from topo_utils.book import Project, findings
from topo_utils.book.chapters import as_json
from topo_utils.book.errors import BookError, UsageError
from topo_utils.files import check_place, replacing


def sweep(
    project, chapter, grid, out, *, preset="default", texts=(), n_jobs=1, scheduler=None, say=print
):
    """Execute a chapter with every combination of values.

    A run whose notebook in `out` was made by the same source, parameters and package is not
    executed again; one that fails is a row of the table with its error, and the others go on.

    Parameters
    ----------
    grid : dict of str to list of str
        Values by parameter, as typed on the command line; what comes twice is run once.
    out : path
        Folder for the executed notebooks and ``results.csv``. Workers of a cluster must see it,
        and the project, under the same path.
    chapter, preset, texts
        What all runs have in common, as for `Project.resolve`.
    n_jobs : int
        Runs at once, as `joblib.Parallel` takes it; they share the cores. More than there are runs
        are not started.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``: the runs go to its workers, one a
        thread.
    say : callable
        Called with a line when a run is done.

    Returns
    -------
    pandas.DataFrame
        One row a combination: its values, ``verdict``, every number of the finding (and, where it
        has an interval, ``NAME low`` and ``NAME high``), ``seconds``, ``error`` (empty where there
        is none) and ``notebook``.

    Raises
    ------
    BookError
        Before anything runs: what cannot be run; no Dask, or no scheduler.
    """
    if not all(grid.values()):
        raise UsageError("the grid is empty", "Needed: --grid NAME VALUE [VALUE ...]")
    out = Path(out).resolve()
    if out.exists() and not out.is_dir():
        raise UsageError(
            f"-o {out} is a file", "Accepted: a folder, for the table and the notebooks"
        )
    if n_jobs == 0:
        raise UsageError("--jobs 0 runs nothing", "Accepted: a number from 1, or -1 for all cores")
    combinations, runs = [], []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        parameters = project.resolve(chapter, preset, [*texts, *chosen.items()])
        name = hashlib.sha256(as_json(parameters, sort_keys=True).encode()).hexdigest()[:16]
        run = parameters, out / f"{chapter}-{name}.ipynb"
        if run not in runs:  # 1 and 1.0 are one run
            combinations.append(chosen)
            runs.append(run)

    with ExitStack() as stack:
        cores = 1  # of a cluster, whose workers have as many threads as they may use
        scratch = None
        if scheduler:
            stack.enter_context(_cluster(scheduler))
        else:
            n_jobs = min(joblib.effective_n_jobs(n_jobs), len(runs))
            cores = max(1, joblib.cpu_count() // n_jobs)
            # Goes with all that workers have begun when they are stopped.
            scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            scratch = stack.enter_context(scratch)
        check_place(out / "results.csv")
        shared = os.getpid(), cores, scratch
        results = joblib.Parallel(n_jobs, return_as="generator_unordered")(
            joblib.delayed(_run_or_read)(i, project.root, project.build, chapter, *run, *shared)
            for i, run in enumerate(runs)
        )
        stack.enter_context(closing(results))
        rows = {}
        for i, row in results:
            rows[i] = combinations[i] | row
            values = ", ".join(f"{name}={value}" for name, value in combinations[i].items())
            say(f"[{len(rows)}/{len(runs)}] {values}: {row['error'] or row['verdict']}")
    table = pd.DataFrame([rows[i] for i in range(len(runs))])
    last = ["seconds", "error", "notebook"]
    table = table[[name for name in table if name not in last] + last]
    with replacing(out / "results.csv") as part:
        table.to_csv(part, index=False)
    return table


@functools.cache
def _end_with(parent):
    """End this worker soon after the process that started it, which says nothing if it is killed.

    The kernel ends with the worker.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_or_read(i, root, build, chapter, parameters, file, parent, cores, scratch):
    """One run, or what an earlier one left: its number, and its row of the table."""
    if scratch and parent != os.getpid():
        _end_with(parent)
    if cores < joblib.cpu_count():  # for the chapter's own threads: runs share the machine
        os.environ["LOKY_MAX_CPU_COUNT"] = os.environ["OMP_NUM_THREADS"] = str(cores)
    project = Project(root, build)
    row = {"verdict": "", "error": "", "notebook": str(file)}
    try:
        notebook, _ = project.run_once(chapter, parameters, file, progress=False, scratch=scratch)
    except BookError as error:
        return i, row | {"error": error.wrong.partition("\n")[0]}
    finding = findings.finding(notebook)
    row["seconds"] = notebook.metadata["topobook"]["seconds"]
    if finding:
        row["verdict"] = finding["verdict"]
        for name, number in finding["numbers"].items():
            row[name] = number["value"]
            row |= {f"{name} {end}": number[end] for end in ("low", "high") if end in number}
    return i, row


def _cluster(scheduler):
    """A context in which joblib runs on the Dask cluster of this scheduler."""
    try:
        from dask.distributed import Client
    except ImportError:
        raise BookError("--scheduler needs Dask", "pip install 'topo_utils[cluster]'") from None
    stack = ExitStack()
    try:
        stack.enter_context(Client(scheduler, timeout=10))
    except (OSError, ValueError) as error:
        raise BookError(
            f"no Dask scheduler at {scheduler}: {error}",
            "Start one (dask scheduler), and give the address that it shows, as tcp://HOST:8786",
        ) from None
    stack.enter_context(joblib.parallel_config("dask"))
    return stack
