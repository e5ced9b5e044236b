"""A grid of runs on a small book: one table, errors and all, and nothing twice."""

import re

import joblib
import pandas as pd
import pytest
from test_book import CHAPTER

from topo_utils.__main__ import main
from topo_utils.book import BookError, Project
from topo_utils.book.sweep import sweep


@pytest.fixture
def project(tmp_path, monkeypatch):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: small\n", encoding="utf-8"
    )
    (notebooks / "intro.md").write_text("# Intro\n")
    (notebooks / "small.py").write_text(CHAPTER)
    (notebooks / "presets.yml").write_text("default: {}\nlarge:\n  small: {number: 30.0}\n")
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


GRID = ["sweep", "small", "--grid", "number", "1.0", "8.0", "--grid", "mode", "loud", "quiet"]


@pytest.mark.slow
def test_a_grid_of_runs_is_one_table_and_is_not_run_again(project, capsys):
    assert main(GRID) == 0
    out = capsys.readouterr().out
    file = project.build / "sweeps" / "small" / "results.csv"
    assert f"4 runs, 0 failed; the table is {file}" in out
    assert "number=8.0, mode=quiet: not reproduced" in out
    table = pd.read_csv(file, keep_default_na=False)
    assert list(table["number"]) == [1.0, 1.0, 8.0, 8.0]
    assert list(table["mode"]) == ["loud", "quiet"] * 2
    assert list(table["half"]) == [0.5, 0.5, 4.0, 4.0]
    assert list(table["half low"]) == [-0.5, -0.5, 3.0, 3.0]
    assert list(table["a_double"]) == [2.0, 2.0, 16.0, 16.0]
    assert list(table["verdict"]) == ["reproduced"] * 2 + ["not reproduced"] * 2

    # Again, and with one value more: only that one runs; what fails is a row.
    notebooks = {f: f.stat().st_mtime_ns for f in file.parent.glob("*.ipynb")}
    grid = [*GRID[:5], "8.0", "400.0", *GRID[6:]]
    assert main(grid) == 1
    assert "6 runs, 2 failed" in capsys.readouterr().out
    assert notebooks == {f: f.stat().st_mtime_ns for f in notebooks}
    table = pd.read_csv(file, keep_default_na=False)
    errors = list(table["error"])
    assert errors[:4] == [""] * 4
    assert all("AssertionError: too large" in error for error in errors[4:])


@pytest.mark.slow
def test_runs_at_once(project, tmp_path):
    lines = []
    grid = {"number": ["1.0", "8.0", "1", "8"]}  # what comes twice is run once
    together = sweep(project, "small", grid, tmp_path / "two", n_jobs=1000, say=lines.append)
    assert len(lines) == 2
    assert list(together["verdict"]) == ["reproduced", "not reproduced"]
    assert list(together["half"]) == [0.5, 4.0]


@pytest.mark.parametrize(
    ("n_jobs", "count", "workers"),
    [(1, 3, 1), (2, 3, 2), (1000, 2, 2), (1000, 1, 1), (-1000, 2, 1)],
)
def test_as_many_workers_as_runs_share_the_cores(
    project, monkeypatch, tmp_path, n_jobs, count, workers
):
    asked, cores = [], set()

    def run(i, *arguments):
        cores.add(arguments[-2])
        return i, {"verdict": "", "error": "", "notebook": "", "seconds": 0}

    def parallel(n_jobs, **_):
        asked.append(n_jobs)
        return lambda tasks: (function(*a, **k) for function, a, k in tasks)

    monkeypatch.setattr("topo_utils.book.sweep._run_or_read", run)
    monkeypatch.setattr(joblib, "Parallel", parallel)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    grid = {"number": [str(number) for number in range(count)]}
    sweep(project, "small", grid, tmp_path / "out", n_jobs=n_jobs, say=lambda _: None)
    assert asked == [workers]
    assert cores == {8 // workers}


@pytest.mark.slow
def test_on_a_cluster(project, tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        table = sweep(
            project,
            "small",
            {"number": ["1.0", "400.0"]},
            tmp_path / "out",
            scheduler=cluster.scheduler_address,
        )
    assert list(table["verdict"]) == ["reproduced", ""]
    assert "too large" in table["error"][1]


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({"nonesuch": ["1"]}, {}, "chapter small has no parameter 'nonesuch'\nIt has: number"),
        ({"number": ["many"]}, {}, "parameter number is 'many'\nAccepted: float"),
        ({"number": ["1.0"]}, {"preset": "none"}, "no preset 'none'\nPresets: default, large"),
        (
            {"number": ["1"]},
            {"texts": [("number", "2")]},
            "parameter number is given more than onc",
        ),
        ({"number": ["1"], "mode": []}, {}, "the grid is empty\nNeeded: --grid NAME VALUE"),
        ({"number": ["1.0"]}, {"n_jobs": 0}, "--jobs 0 runs nothing\nAccepted: a number from 1"),
        (
            {"number": ["1.0"]},
            {"scheduler": "tcp:///nowhere"},
            "no Dask scheduler at tcp:///nowhere",
        ),
    ],
)
def test_what_is_refused(project, tmp_path, grid, options, message):
    if "scheduler" in options:
        pytest.importorskip("dask.distributed")
    with pytest.raises(BookError, match=re.escape(message)):
        sweep(project, "small", grid, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way(project, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main([*GRID, "-o", str(tmp_path / "out")]) == 2
    assert "out is a file\nAccepted: a folder" in capsys.readouterr().err


def test_a_parameter_without_values_is_wrong_usage(project, capsys):
    assert main(["sweep", "small", "--grid", "number"]) == 2
    assert "the grid is empty" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["sweep", "small"])
    assert caught.value.code == 2
    assert "--grid" in capsys.readouterr().err
