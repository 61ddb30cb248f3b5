"""No-op tasks per second, end to end, and database statements per task.

From the first ``start_flow`` to the last run's completion: claim, pool process, collector, completion, with fsync
on. Two loads: one map step, and runs of a single step. Statements are the transactions that PostgreSQL counted
while the load ran, start and polling included; pgflow sends each statement as a transaction of its own.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from benchmarks.report import machine
from pgflow import Client, Database, Worker
from pgflow.database import schema
from pgflow.database.choice import open_database
from pgflow.worker import available_cores

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load, once: ``seconds`` from start to completion."""

    tasks: int
    seconds: float
    statements: int

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds

    @property
    def statements_per_task(self) -> float:
        """Database statements for each task."""
        return self.statements / self.tasks


@click.command()
@click.option("--tasks", default=5_000, show_default=True, help="Tasks of each load.")
@click.option("--slots", default=available_cores(), show_default=True, help="Pool processes.")
@click.option("--repeat", default=5, show_default=True, help="Measurements of each load; the median counts.")
@click.option("--database", help="URL; without it the usual order of choice, else the embedded server.")
def main(tasks: int, slots: int, repeat: int, database: str | None) -> None:
    """Measure no-op throughput and print a Markdown table."""
    with open_database(database) as opened:
        with opened.connection() as connection:
            schema.ensure(connection)
            (version,) = connection.execute("SHOW server_version").fetchone() or ("?",)
        click.echo(f"{machine()}; Python {platform.python_version()}, PostgreSQL {version}, {slots} slots\n")
        click.echo("| load | tasks | tasks/s (median) | lowest-highest | statements per task |")
        click.echo("|---|---|---|---|---|")
        for name, flow, load in (
            ("one map step", "benchmarks.flows:noop_map", run_map),
            ("single-step runs", "benchmarks.flows:noop_single", run_singles),
        ):
            click.echo(row(name, [measure(opened, flow, load, tasks, slots) for _ in range(repeat)]))


def measure(database: Database, flow: str, load: Callable[[Client, int], None], tasks: int, slots: int) -> Measurement:
    """Run one load with a worker of its own."""
    with Worker(database, [flow], slots=slots):
        before = transactions(database)
        started = time.perf_counter()
        load(Client(database), tasks)
        seconds = time.perf_counter() - started
    return Measurement(tasks, seconds, transactions(database) - before)


def run_map(client: Client, tasks: int) -> None:
    """One run whose map has ``tasks`` elements."""
    client.wait(client.start("bench_noop_map", [0] * tasks))


def run_singles(client: Client, tasks: int) -> None:
    """``tasks`` runs of one task each."""
    for run_id in [client.start("bench_noop_single", {}) for _ in range(tasks)]:
        client.wait(run_id)


def transactions(database: Database) -> int:
    """Transactions that PostgreSQL has counted in this database; backends report when they end or idle."""
    with database.connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
    with database.connection() as connection:
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def row(name: str, measurements: list[Measurement]) -> str:
    """A line of the table."""
    rates = [measurement.rate for measurement in measurements]
    statements = statistics.median(measurement.statements_per_task for measurement in measurements)
    return (
        f"| {name} | {measurements[0].tasks:,} | {statistics.median(rates):,.0f} "
        f"| {min(rates):,.0f}-{max(rates):,.0f} | {statements:.2f} |"
    )


if __name__ == "__main__":
    main()
