"""Pruning: what ended long ago is deleted in short transactions, while workers run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from pgflow.database import Database
from pgflow.errors import NotInContractError, SchemaMissingError

RUNS_AT_ONCE = 500
MESSAGES_AT_ONCE = 5_000
KEYS_AT_ONCE = 50_000
"""How many runs, archived messages of each flow, and items of batches that are remembered, one transaction deletes."""


@dataclass(slots=True)
class Pruned:
    """How many rows have been deleted; ``messages`` are archived ones. Tasks and attempts go with their runs."""

    runs: int = 0
    messages: int = 0
    workers: int = 0
    batches: int = 0


def prune(database: Database, older_than: float, tell: Callable[[Pruned], None] = lambda _pruned: None) -> Pruned:
    """Delete runs that ended, messages that were archived, workers that were last heard of and batches that were last
    worked for more than ``older_than`` seconds ago. ``tell`` is called after each transaction.

    Runs that go on are kept, whatever their age. What is interrupted is done so far.

    Raises NotInContractError on another implementation's core, which has ``prune_data_older_than`` alone.
    """
    pruned = Pruned()
    after: str | None = "(0,0)"
    while after is not None:
        row = _call(database, "prune_runs", older_than, RUNS_AT_ONCE, after=after)
        after = row["last_row"]
        pruned.runs += row["pruned"]
        tell(pruned)
    count = MESSAGES_AT_ONCE
    while count >= MESSAGES_AT_ONCE:  # what grows old meanwhile is for the next time
        count = _call(database, "prune_archives", older_than, MESSAGES_AT_ONCE)["pruned"]
        pruned.messages += count
        tell(pruned)
    while count := _call(database, "prune_workers", older_than, 1)["pruned"]:
        pruned.workers += count
        tell(pruned)
    row = {"items": KEYS_AT_ONCE}
    while row["items"] >= KEYS_AT_ONCE:
        row = _call(database, "prune_batches", older_than, KEYS_AT_ONCE)
        pruned.batches += row["batches"]
        tell(pruned)
    return pruned


def _call(database: Database, query: str, older_than: float, limit: int, **more: str) -> dict[str, Any]:
    try:
        row = database.fetch_one(query, {"older_than": older_than, "limit": limit, **more})
    except psycopg.errors.UndefinedFunction:
        raise NotInContractError(what="pruning in short transactions") from None
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable):
        raise SchemaMissingError from None
    assert row is not None
    return row
