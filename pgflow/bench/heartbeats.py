"""How regular a worker's heartbeats are in the database, with handlers that hold the GIL in every slot.

A heartbeat writes the server's ``clock_timestamp()`` into the worker's row, so the intervals are read from there; the
row is read so often that none is missed.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import click
import psycopg

from pgflow.bench import flows
from pgflow.bench.figures import Figures, rounded
from pgflow.bench.site import delete_flows
from pgflow.client import Client
from pgflow.database import Database
from pgflow.worker import Worker
from pgflow.worker.leases import HEARTBEAT_SECONDS

GOAL_SECONDS = 0.5
LOOK_SECONDS = 0.02
SECONDS, QUICK_SECONDS = 60, 16
IDLE, GIL, HUNG = "idle", "handlers in C with the GIL held", "hung handlers, killed"
FLOWS = {IDLE: flows.busy, GIL: flows.busy, HUNG: flows.hung}
SLUGS = [flows.busy.slug, flows.hung.slug]
SLOTS = (2, 8)


@dataclass(slots=True)
class Beats:
    """The intervals between a worker's heartbeats, in seconds, and how long after each it could be read."""

    intervals: list[float] = field(default_factory=list)
    read_after: list[float] = field(default_factory=list)

    @property
    def jitter(self) -> float:
        """How far the worst interval is from what it should be."""
        return max(abs(interval - HEARTBEAT_SECONDS) for interval in self.intervals)


def measure(
    database: Database, connection: psycopg.Connection[Any], seconds: int, figures: Figures, *, quick: bool
) -> list[str]:
    """Each load for so many seconds; the worst jitter, in words."""
    worst = 0.0
    for load in (GIL,) if quick else FLOWS:
        for slots in SLOTS:
            click.echo(f"{load}, {slots} slots: {seconds} seconds", err=True)
            beats, ended = _measure(database, connection, load, slots, seconds)
            name = f"{load}, {slots} slots"
            figures.add(name, "tasks ended", "", ended)
            figures.add(name, "interval", "s", *beats.intervals, tail=True)
            figures.add(name, "jitter", "ms", beats.jitter * 1e3)
            figures.add(name, "readable after", "ms", *(value * 1e3 for value in beats.read_after), tail=True)
            worst = max(worst, beats.jitter)
    return [f"worst jitter: {rounded(worst * 1e3)} ms (goal: less than {GOAL_SECONDS * 1e3:.0f})"]


def _measure(
    database: Database, connection: psycopg.Connection[Any], load: str, slots: int, seconds: int
) -> tuple[Beats, int]:
    flow = FLOWS[load]
    delete_flows(connection, [flow.slug])
    worker = Worker(database, [flows.reference(flow)], slots=slots, stderr=subprocess.DEVNULL)
    worker.start()
    try:
        if load != IDLE:
            Client(database).start_many(flow.slug, [{}] * (slots * seconds))
        beats = _watch(connection, flow.slug, seconds)
        return beats, _ended_tasks(connection, flow.slug)
    finally:
        worker.stop(timeout=0)


def _watch(connection: psycopg.Connection[Any], slug: str, seconds: int) -> Beats:
    """Read the worker's row until the time is over. What it says at first is from before: no interval begins there."""
    seen: list[datetime] = []
    found = Beats()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        row = connection.execute(
            "SELECT last_heartbeat_at, clock_timestamp() FROM pgflow.workers WHERE queue_name = %s", [slug]
        ).fetchone()
        assert row is not None
        beat, now = row
        if not seen or beat != seen[-1]:
            seen.append(beat)
            found.read_after.append((now - beat).total_seconds())
        time.sleep(LOOK_SECONDS)
    del found.read_after[0]
    found.intervals += [(later - earlier).total_seconds() for earlier, later in pairwise(seen[1:])]
    return found


def _ended_tasks(connection: psycopg.Connection[Any], slug: str) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM pgflow.step_tasks WHERE flow_slug = %s AND status IN ('completed', 'failed')", [slug]
    ).fetchone() or (0,)
    return int(count)
