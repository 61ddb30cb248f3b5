"""The suites and ``pgflow bench`` on a real database, with a few tasks each; what they leave."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import commands
from pgflow.bench import flows, overhead, scaling, sqlcore, throughput
from pgflow.bench.loads import Load
from pgflow.bench.site import housekeeping
from pgflow.database import Database
from tests.support import cli
from tests.support.worker import Runs

EMBEDDED = pytest.mark.parametrize("server", ["embedded"], indirect=True)
TINY = ("--quick", "--repeat", "1", "--slots", "1")
SIZE = ("--size", "0.02")


def assert_nothing_is_left(runs: Runs) -> None:
    """No flows, workers, runs; no queues."""
    for table in ("flows", "workers", "runs", "step_tasks"):
        assert runs.query(f"SELECT count(*) AS rows FROM pgflow.{table}") == [{"rows": 0}], table
    assert runs.query("SELECT queue_name FROM pgmq.list_queues()") == []


@EMBEDDED
def test_pgflow_bench_measures_and_leaves_nothing(database_url: str, runs: Runs, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    result = cli.call("bench", "--repeat", "1", "--slots", "1", *SIZE, "--json", str(figures), url=database_url)
    assert result.returncode == 0, result.stderr
    assert "defines the flows bench_single" in result.stderr
    assert "| one map, no-op | tasks/s |" in result.stdout
    assert "| idle, start to completed, one step | p99, ms |" in result.stdout
    assert json.loads(figures.read_text())["versions"]["pgflow"]
    assert_nothing_is_left(runs)


@EMBEDDED
def test_pgflow_bench_leaves_nothing_after_an_interrupt(database_url: str, runs: Runs) -> None:
    with cli.begun("bench", "--slots", "1", url=database_url) as process:
        cli.hear(process, "measurement 1 of 3")
        while not runs.query("SELECT 1 AS one FROM pgflow.step_tasks LIMIT 1"):
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "deleting what was made for measuring" in errors
    assert_nothing_is_left(runs)


def test_python_runs_the_benchmarks() -> None:
    command = [sys.executable, "-m", "benchmarks", "throughput", "--against", "nobody"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "python -m benchmarks throughput --help" in result.stderr


@EMBEDDED
def test_one_benchmark_at_a_time(database_url: str, runs: Runs) -> None:
    with runs.connection.transaction():
        runs.query("SELECT pg_advisory_xact_lock(%s)", 0x7067626E)
        result = cli.call("bench", url=database_url)
    assert result.returncode == 1
    assert "another benchmark runs in the database" in result.stderr


@EMBEDDED
def test_throughput_beside_a_peer(
    database_url: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "QUICK", (Load("map", 250), Load("map", 40, cpu=0.01)))
    figures = tmp_path / "figures.json"
    arguments = ["throughput", *TINY, *SIZE, "--against", "executor", "--json", str(figures)]
    result = CliRunner().invoke(commands.main, [*arguments, "--database", database_url])
    assert result.exit_code == 0, result.output
    assert "| load | figure | pgflow | ProcessPoolExecutor |" in result.stdout
    assert "| one map, 10 ms of CPU | share of the ideal, % |" in result.stdout
    rates = {
        (figure["load"], figure["by"]): figure["samples"]
        for figure in json.loads(figures.read_text())["figures"]
        if figure["quantity"] == "tasks/s"
    }
    assert {by for _, by in rates} == {"pgflow", "ProcessPoolExecutor"}
    assert all(len(samples) == 1 and samples[0] > 0 for samples in rates.values())
    assert_nothing_is_left(runs)


@EMBEDDED
@pytest.mark.parametrize(
    ("suite", "arguments", "words"),
    [
        ("latency", SIZE, "| loaded, handler end to dependent's start | p50, ms |"),
        ("overhead", SIZE, "| one map, no-op | CPU of the dispatcher, us per task |"),
        ("scaling", SIZE, "| 25 tasks in the tables, one map | tasks/s |"),
        ("sql", (), "| map of 1,000 | claim + complete, us per task |"),
    ],
)
def test_a_suite_measures_and_leaves_nothing(
    database_url: str, runs: Runs, suite: str, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "QUICK", overhead.QUICK[-1:])
    monkeypatch.setattr(scaling, "QUICK_SLOTS", (1,))
    monkeypatch.setattr(scaling, "SLOT_LOADS", scaling.SLOT_LOADS[1:])
    monkeypatch.setattr(scaling, "QUICK_WORKERS", (2,))
    monkeypatch.setattr(scaling, "QUICK_MAPS", (10,))
    monkeypatch.setattr(scaling, "QUICK_ROWS", (25,))
    monkeypatch.setattr(scaling, "FANS", {1: flows.fan_1})
    monkeypatch.setattr(sqlcore, "QUICK", sqlcore.Extent(maps=(1_000,), runs=1_000, runs_one_by_one=5, sample_tasks=1))
    tiny = TINY[:3] if suite == "sql" else TINY
    result = CliRunner().invoke(commands.main, [suite, *tiny, *arguments, "--database", database_url])
    assert result.exit_code == 0, result.output
    assert words in result.output
    assert_nothing_is_left(runs)


@EMBEDDED
def test_who_measures_keeps_no_dead_row(database_url: str, runs: Runs) -> None:
    with Database(database_url) as database, housekeeping(database, []):
        held = runs.query("SELECT backend_xmin FROM pg_stat_activity WHERE application_name = 'pgflow benchmark'")
    assert held == [{"backend_xmin": None}] * 2


@EMBEDDED
def test_batches_are_measured_beside_an_executor(database_url: str, runs: Runs) -> None:
    result = CliRunner().invoke(commands.main, ["batch", *TINY, *SIZE, "--items", "50", "--database", database_url])
    assert result.exit_code == 0, result.output
    for words in (
        "items of 10 ms | whole command, over the executor, %",
        "command to first item, s",
        "50 no-op items | peak memory of the dispatcher, MiB",
    ):
        assert words in result.output
    assert_nothing_is_left(runs)
