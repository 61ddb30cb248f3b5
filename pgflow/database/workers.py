"""The workers' rows: one per flow served, with a heartbeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgflow.database import Database


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


def mark_stopped(database: Database, worker_ids: Iterable[str]) -> None:
    """Say that this worker has ended."""
    database.execute("mark_workers_stopped", {"worker_ids": list(worker_ids)})
