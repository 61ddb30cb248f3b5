"""The workers' rows: one per flow served, with a heartbeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgflow.database import Database

_REQUEUE_LOCK_KEY = 0x70677271  # "pgrq"


def register(database: Database, worker_ids: Mapping[str, str], name: str) -> None:
    """Insert the rows of a worker; ``worker_ids`` maps flow slugs to fresh UUIDs, ``name`` tells operators
    which process it is."""
    database.execute(
        "register_workers",
        {"flow_slugs": list(worker_ids), "worker_ids": list(worker_ids.values()), "name": name},
    )


def heartbeat(database: Database, worker_ids: Iterable[str]) -> bool:
    """Renew all heartbeats in one statement; True when an operator has deprecated any of the rows."""
    rows = database.fetch_all("heartbeat", {"worker_ids": list(worker_ids)})
    return any(row["deprecated"] for row in rows)


def await_tasks(database: Database, worker_ids: Mapping[str, str]) -> float | None:
    """Say that a worker waits to be notified of tasks of its flows. It has to look for some once more after that.

    Returns in how many seconds the next delayed task becomes visible, infinity if none is known; None if it may not
    wait, because tasks are being queued at this moment.
    """
    row = database.fetch_one("await_tasks", {"flow_slugs": list(worker_ids), "worker_ids": list(worker_ids.values())})
    assert row is not None
    if not row["is_waiting"]:
        return None
    return float("inf") if row["next_visible_in"] is None else float(row["next_visible_in"])


def stop_awaiting_tasks(database: Database, worker_ids: Iterable[str]) -> None:
    """Say that a worker does not wait any more."""
    database.execute("stop_awaiting_tasks", {"worker_ids": list(worker_ids)})


def mark_stopped(database: Database, worker_ids: Iterable[str]) -> None:
    """Say that this worker has ended."""
    database.execute("mark_workers_stopped", {"worker_ids": list(worker_ids)})


def requeue_stalled_tasks(database: Database) -> int:
    """Hand back what workers hold that have been silent for the task's timeout and 30 seconds; how many tasks. Does
    nothing while another worker does it."""
    row = database.fetch_one("requeue_stalled_tasks", {"lock_key": _REQUEUE_LOCK_KEY})
    return int(row["requeued"]) if row is not None else 0


def count_stalled_tasks(database: Database) -> int:
    """How many tasks were handed back so often that they are left alone, and their runs with them."""
    row = database.fetch_one("count_stalled_tasks")
    assert row is not None
    return int(row["stalled"])
