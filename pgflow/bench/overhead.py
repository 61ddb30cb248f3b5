"""What a task costs beside its handler: CPU time of the dispatcher, of the pool processes and of PostgreSQL, database
statements, and the dispatcher's memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click
import psycopg

from pgflow.bench.contender import FLOWS, Pgflow
from pgflow.bench.figures import Figures
from pgflow.bench.loads import DAG_STEPS, Load
from pgflow.bench.options import Options
from pgflow.process import proc, usage

LOADS = (Load("runs", 1_000), Load("map", 2_500), Load("dags", 1_000), Load("map", 500, text_bytes=10_000))
QUICK = (Load("runs", 250), Load("map", 1_000))
MIB = 2**20
LOOK_SECONDS = 0.25
"""Looking is a statement, too."""


@dataclass(frozen=True, slots=True)
class Used:
    """What has been used so far: CPU seconds of each process. ``peak_rss`` is the dispatcher's, in bytes."""

    dispatcher: dict[int, float]
    pool: dict[int, float]
    postgresql: dict[int, float]
    peak_rss: int


def measure(pgflow: Pgflow, connection: psycopg.Connection[Any], options: Options, figures: Figures) -> list[str]:
    """All loads; what is to be remarked."""
    for number in range(1, options.repeat + 1):
        click.echo(f"measurement {number} of {options.repeat}", err=True)
        for load in QUICK if options.quick else LOADS:
            _measure(pgflow, connection, load, options, figures)
    if not proc.pids():
        return ["Without /proc there are no figures of processes."]
    return []


def _measure(
    pgflow: Pgflow, connection: psycopg.Connection[Any], load: Load, options: Options, figures: Figures
) -> None:
    count = load.count(options.slots, options.size)
    warm_up = options.slots * DAG_STEPS
    before_worker = set(proc.children(os.getpid()))
    transactions = _transactions(connection)
    with pgflow.serving(FLOWS[load.shape]) as worker:
        pgflow.do(worker, Load(load.shape, 1), warm_up, LOOK_SECONDS)
        pids = [pid for pid in proc.children(os.getpid()) if pid not in before_worker]
        before = _used(connection, pids)
        pgflow.do(worker, load, count, LOOK_SECONDS)
        after = _used(connection, pids)
    # Backends report what they have done when they end, so the worker's start and end are in it.
    figures.add(load.name, "statements", "per task", (_transactions(connection) - transactions) / (count + warm_up))
    if pids:
        _add_processes(figures, load.name, count, before, after)


def _add_processes(figures: Figures, load: str, count: int, before: Used, after: Used) -> None:
    for quantity, was, is_now in (
        ("CPU of the dispatcher", before.dispatcher, after.dispatcher),
        ("CPU of the pool processes", before.pool, after.pool),
        ("CPU of PostgreSQL's backends", before.postgresql, after.postgresql),
    ):
        if is_now:
            seconds = sum(cpu - was.get(pid, cpu) for pid, cpu in is_now.items())
            figures.add(load, quantity, "us per task", seconds / count * 1e6)
    figures.add(load, "peak memory of the dispatcher", "MiB", after.peak_rss / MIB)
    grown = max(0, after.peak_rss - before.peak_rss)
    figures.add(load, "growth of that peak", "bytes per task", grown / count)


def _used(connection: psycopg.Connection[Any], dispatchers: Iterable[int]) -> Used:
    pids = set(dispatchers)
    pool = {pid for dispatcher in pids for pid in _descendants(dispatcher)}
    seen = [found for pid in pids if (found := usage.of_process(pid)) is not None]
    return Used(
        dispatcher=_cpu(pids),
        pool=_cpu(pool),
        postgresql=_cpu(_backends(connection)),
        peak_rss=sum(found.peak_rss for found in seen),
    )


def _cpu(pids: Iterable[int]) -> dict[int, float]:
    return {pid: seen.cpu for pid in pids if (seen := usage.sample(pid)) is not None}


def _descendants(pid: int) -> Iterable[int]:
    for child in proc.children(pid):
        yield child
        yield from _descendants(child)


def _backends(connection: psycopg.Connection[Any]) -> set[int]:
    """The backends of this database; none if the server is on another machine."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    pids = {pid for (pid,) in connection.execute(query)}
    names = {pid: seen.name for pid in pids if (seen := proc.status(pid)) is not None}
    return {pid for pid, name in names.items() if name.startswith("postgres")}


def _transactions(connection: psycopg.Connection[Any]) -> int:
    """Transactions that PostgreSQL has counted in this database; pgflow sends each statement as one of its own."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)
