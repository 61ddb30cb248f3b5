"""The workers' rows: one per flow served, with a heartbeat."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime

from pgflow.database import Database
from pgflow.process.identity import ProcessIdentity

SILENT_SECONDS = 6
"""A worker that has not shown for so long that it lives is a suspect."""
_RESCUE_LOCK_KEY = 0x70677273  # "pgrs"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A worker that may be gone: it has been silent, or it holds ``holds`` tasks although it has stopped.

    ``heartbeat`` is None where its row is gone, ``process`` where nothing is known of it. ``name`` is for people.
    """

    worker_id: str
    heartbeat: datetime | None
    is_stopped: bool
    name: str
    process: ProcessIdentity | None
    holds: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Whether an operator has deprecated any of a worker's rows, and which of them are not there any more."""

    is_deprecated: bool
    missing: frozenset[str]


def register(
    database: Database, worker_ids: Mapping[str, str], name: str, process: ProcessIdentity | None = None
) -> None:
    """Insert the rows of a worker; ``worker_ids`` maps flow slugs to fresh UUIDs, ``name`` tells operators
    which process it is, ``process`` other workers, where the schema is ours."""
    rows = {"flow_slugs": list(worker_ids), "worker_ids": list(worker_ids.values()), "name": name}
    if process is None or not _knows_processes(database):
        database.execute("contract/register_workers", rows)
    else:
        database.execute("register_workers", rows | asdict(process))


def _knows_processes(database: Database) -> bool:
    row = database.fetch_one("knows_processes")
    return row is not None and bool(row["knows_processes"])


def heartbeat(database: Database, worker_ids: Collection[str]) -> Heartbeat:
    """Renew all heartbeats in one statement, also of rows that were marked dead."""
    rows = database.fetch_all("heartbeat", {"worker_ids": list(worker_ids)})
    there = {row["worker_id"] for row in rows}
    return Heartbeat(
        is_deprecated=any(row["deprecated"] for row in rows),
        missing=frozenset(worker_id for worker_id in worker_ids if worker_id not in there),
    )


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


def suspects(
    database: Database, own_worker_ids: Iterable[str], silent_seconds: float = SILENT_SECONDS
) -> list[Suspect]:
    """The workers but these that have been silent for so long, or hold tasks although they have stopped, by id."""
    with database.transaction() as transaction:
        transaction.fetch_all("avoid_scans")
        rows = transaction.fetch_all(
            "suspects", {"own_worker_ids": list(own_worker_ids), "silent_seconds": silent_seconds}
        )
    processes = _processes(database, [row["worker_id"] for row in rows])
    return [Suspect(**row, process=processes.get(row["worker_id"])) for row in rows]


def _processes(database: Database, worker_ids: Sequence[str]) -> dict[str, ProcessIdentity]:
    if not worker_ids or not _knows_processes(database):
        return {}
    rows = database.fetch_all("worker_processes", {"worker_ids": list(worker_ids)})
    return {row.pop("worker_id"): ProcessIdentity(**row) for row in rows}


def mark_dead(database: Database, suspects: Iterable[Suspect]) -> list[str]:
    """Say that these workers have ended, but for those that have shown since that they live; the ids of the others."""
    silent = [suspect for suspect in suspects if suspect.heartbeat is not None]
    rows = database.fetch_all(
        "mark_workers_dead",
        {
            "worker_ids": [suspect.worker_id for suspect in silent],
            "heartbeats": [suspect.heartbeat for suspect in silent],
        },
    )
    return [row["worker_id"] for row in rows]


@contextmanager
def rescuing(database: Database) -> Iterator[bool]:
    """Whether this worker is the one that rescues during the block: nobody else is meanwhile. Takes a connection
    of the pool."""
    with database.transaction() as transaction:
        (row,) = transaction.fetch_all("try_lock", {"lock_key": _RESCUE_LOCK_KEY})
        yield row["is_locked"]


def count_stalled_tasks(database: Database) -> int:
    """How many tasks were handed back so often that they are left alone, and their runs with them."""
    row = database.fetch_one("count_stalled_tasks")
    assert row is not None
    return int(row["stalled"])
