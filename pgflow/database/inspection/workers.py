"""Workers as operators see them: a process each, whatever number of flows it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pgflow.database import Database
from pgflow.database.inspection import OwnTables
from pgflow.database.inspection.identifiers import CANDIDATES, id_range, the_one

WorkerStatus = Literal["alive", "silent", "deprecated", "stopped"]


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker process.

    It has a row, and so an id, for each flow it serves: ``worker_ids`` and ``flow_slugs`` go together. ``silent`` is
    one without a sign of life for 30 seconds, ``deprecated`` one that was asked to finish what it runs and end;
    ``holds`` counts the tasks it has claimed. ``host`` and ``pid`` are None where the core does not keep them.
    """

    worker_ids: tuple[str, ...]
    name: str
    flow_slugs: tuple[str, ...]
    status: WorkerStatus
    host: str | None
    pid: int | None
    started_at: datetime
    last_heartbeat_at: datetime
    silent_seconds: float
    deprecated_at: datetime | None
    stopped_at: datetime | None
    holds: int


def list_workers(
    database: Database, own: OwnTables, *, flow_slug: str | None = None, status: str | None = None, limit: int
) -> tuple[list[WorkerState], bool]:
    """At most ``limit`` workers, those that have not stopped first, then the newest; and whether there are more."""
    workers = _workers(database, own, limit=limit + 1, flow_slug=flow_slug, status=status)
    return workers[:limit], len(workers) > limit


def workers_by_id(database: Database, own: OwnTables, worker_ids: Sequence[str]) -> list[WorkerState]:
    """The workers that have any of these ids."""
    return _workers(database, own, limit=len(worker_ids), worker_ids=list(worker_ids))


def find_worker(database: Database, own: OwnTables, given: str) -> WorkerState:
    """The one worker one of whose ids begins so. Raises IdNotFoundError and AmbiguousIdError."""
    ids = id_range(given)
    found = [] if ids is None else _workers(database, own, limit=CANDIDATES + 1, first=ids.first, last=ids.last)
    by_id = {worker.worker_ids[0]: worker for worker in found}
    described = {
        worker_id: f"{worker_id} ({worker.name}, {worker.status}, {', '.join(worker.flow_slugs)})"
        for worker_id, worker in by_id.items()
    }
    return by_id[the_one(described, "worker", given, "pgflow workers list", database)]


def deprecate(database: Database, worker: WorkerState) -> bool:
    """Ask a worker to finish what it runs, claim nothing more and end, as the contract has it: it learns of it with its
    next heartbeat. Whether that was new to it."""
    return bool(database.fetch_all("inspection/deprecate_workers", {"worker_ids": list(worker.worker_ids)}))


def _workers(database: Database, own: OwnTables, *, limit: int, **wanted: Any) -> list[WorkerState]:
    unset = dict.fromkeys(("first", "last", "worker_ids", "flow_slug", "status"))
    with database.transaction() as transaction:
        transaction.fetch_all("avoid_scans")
        rows = transaction.fetch_all("inspection/workers", unset | wanted | {"limit": limit})
        ids = [worker_id for row in rows for worker_id in row["worker_ids"]]
        known = transaction.fetch_all("worker_processes", {"worker_ids": ids}) if own.worker_processes else []
    processes = {row["worker_id"]: row for row in known}
    return [_worker(row, processes) for row in rows]


def _worker(row: dict[str, Any], processes: dict[str, dict[str, Any]]) -> WorkerState:
    process = next((processes[worker_id] for worker_id in row["worker_ids"] if worker_id in processes), None)
    return WorkerState(
        worker_ids=tuple(row.pop("worker_ids")),
        flow_slugs=tuple(row.pop("flow_slugs")),
        host=None if process is None else process["host"],
        pid=None if process is None else process["pid"],
        **row,
    )
