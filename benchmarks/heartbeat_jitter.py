"""How regular a worker's heartbeats are in the database, with handlers that hold the GIL in every slot.

A heartbeat writes the server's ``clock_timestamp()`` into the worker's row, so the intervals are read from there; the
row is read so often that none is missed. What the figures mean is in README.md beside this file.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import psycopg

from benchmarks.database import delete_flows, opened_database
from benchmarks.report import circumstances, json_option, print_table, quantile, rounded
from pgflow import Client, Database, Worker
from pgflow.cli.failures import ending_in_words
from pgflow.worker.leases import HEARTBEAT_SECONDS
from pgflow.worker.lifecycle import CONNECTIONS

GOAL_SECONDS = 0.5
LOOK_SECONDS = 0.02
QUICK_SECONDS = 16
FLOWS = {"idle": "bench_busy", "handlers in C with the GIL held": "bench_busy", "hung handlers, killed": "bench_hung"}
REFERENCES = {"bench_busy": "benchmarks.flows:busy", "bench_hung": "benchmarks.flows:hung"}
IDLE, GIL, HUNG = FLOWS


@dataclass(slots=True)
class Figure:
    """The intervals between a worker's heartbeats, in seconds, and how long after each it could be read."""

    load: str
    slots: int
    intervals: list[float] = field(default_factory=list)
    read_after: list[float] = field(default_factory=list)
    tasks_ended: int = 0

    @property
    def jitter(self) -> float:
        """How far the worst interval is from what it should be."""
        return max(abs(interval - HEARTBEAT_SECONDS) for interval in self.intervals)

    def cells(self) -> list[str]:
        """The line of a table."""
        parts = " / ".join(f"{quantile(self.intervals, share):.3f}" for share in (0.5, 0.99, 1.0))
        counts = [str(self.slots), str(self.tasks_ended), str(len(self.intervals))]
        read_after = rounded(max(self.read_after) * 1e3)
        return [self.load, *counts, parts, rounded(self.jitter * 1e3), read_after]


@click.command()
@click.option("--database", metavar="URL", help="Without it the usual order of choice, else the embedded server.")
@click.option(
    "--seconds",
    type=click.IntRange(16, 86_400),
    default=60,
    show_default=True,
    metavar="N",
    help="How long each load is watched.",
)
@click.option("--quick", is_flag=True, help=f"Two of the loads, {QUICK_SECONDS} seconds each.")
@json_option
def main(database: str | None, seconds: int, quick: bool, json_path: Path | None) -> None:
    """Measure how regular heartbeats are and print a Markdown table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    loads = [(GIL, 2), (GIL, 8)] if quick else [(load, slots) for load in FLOWS for slots in (2, 8)]
    seconds = QUICK_SECONDS if quick else seconds
    facts = circumstances({"seconds": seconds, "quick": quick})
    figures = []
    with ending_in_words(), opened_database(database, max_connections=CONNECTIONS) as opened:
        facts["postgresql"] = server_version(opened)
        for load, slots in loads:
            click.echo(f"{load}, {slots} slots: {seconds} seconds", err=True)
            figures.append(measure(opened, load, slots, seconds))
    report(facts, figures)
    if json_path is not None:
        data = {**facts, "figures": [asdict(figure) for figure in figures]}
        json_path.write_text(json.dumps(data, indent=2) + "\n")


def server_version(database: Database) -> str:
    """PostgreSQL's version."""
    with database.connection() as connection:
        (version,) = connection.execute("SHOW server_version").fetchone() or ("?",)
    return str(version)


def measure(database: Database, load: str, slots: int, seconds: int) -> Figure:
    """Watch a worker of its own under the load; the flow is deleted before and after."""
    slug = FLOWS[load]
    figure = Figure(load, slots)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        delete_flows(connection, [slug])
        worker = Worker(database, [REFERENCES[slug]], slots=slots, stderr=subprocess.DEVNULL)
        worker.start()
        try:
            if load != IDLE:
                client = Client(database)
                for _ in range(slots * seconds):
                    client.start(slug, {})
            watch(connection, slug, figure, seconds)
            figure.tasks_ended = ended_tasks(connection, slug)
        finally:
            worker.stop(timeout=0)
            delete_flows(connection, [slug])
    return figure


def watch(connection: psycopg.Connection[Any], slug: str, figure: Figure, seconds: int) -> None:
    """Read the worker's row until the time is over. What it says at first is from before: no interval begins there."""
    beats: list[datetime] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        row = connection.execute(
            "SELECT last_heartbeat_at, clock_timestamp() FROM pgflow.workers WHERE queue_name = %s", [slug]
        ).fetchone()
        assert row is not None
        beat, now = row
        if not beats or beat != beats[-1]:
            beats.append(beat)
            figure.read_after.append((now - beat).total_seconds())
        time.sleep(LOOK_SECONDS)
    del figure.read_after[0]
    figure.intervals += [(later - earlier).total_seconds() for earlier, later in pairwise(beats[1:])]


def ended_tasks(connection: psycopg.Connection[Any], slug: str) -> int:
    """How many of the flow's tasks have ended."""
    (count,) = connection.execute(
        "SELECT count(*) FROM pgflow.step_tasks WHERE flow_slug = %s AND status IN ('completed', 'failed')", [slug]
    ).fetchone() or (0,)
    return int(count)


def report(facts: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Print the figures as Markdown."""
    click.echo(
        f"{facts['machine']}, load average {facts['load_average']} at the start; Python {facts['python']}, "
        f"PostgreSQL {facts['postgresql']}; {facts['options']['seconds']} seconds each\n"
    )
    header = ["load", "slots", "tasks ended", "intervals", "median / p99 / max, s", "jitter, ms", "readable after, ms"]
    print_table(header, [figure.cells() for figure in figures])
    worst = max(figure.jitter for figure in figures)
    click.echo(f"worst jitter: {rounded(worst * 1e3)} ms (goal: less than {GOAL_SECONDS * 1e3:.0f})")


if __name__ == "__main__":
    main()
