"""Batches in the database: what they are, adding their items, and what has become of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg.rows import class_row

from pgflow.database import Database, named_query
from pgflow.errors import BatchNotFoundError, BatchTakenOverError, NotInContractError, SchemaMissingError

FileKind = Literal["output", "errors", "joblog"]
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A file that a batch writes; ``size`` is how many bytes of it are known to be written."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """A batch as it is in the database.

    ``target`` is what it was made for, ``reference`` how its flow is loaded. ``pass_number`` says how often it has been
    begun. Of its ``items``, ``unwritten`` are not in its files yet, and ``failures`` have failed, and are in them.
    """

    batch_id: int
    name: str
    flow_slug: str
    target: str
    reference: str
    pass_number: int
    items: int
    unwritten: int
    failures: int
    files: Mapping[FileKind, BatchFile]


class FinishedItem(NamedTuple):
    """An item that has ended.

    ``outcome`` is ``completed``, or how its last attempt failed; ``output`` is the output as JSON text, or the error
    object ``{"message", "kind", "attempts"}``. ``started_at`` is in seconds since 1970; what is not known is None.
    """

    run_id: str
    task_index: int
    item_count: int
    item_index: int
    key: bytes
    item: str
    outcome: str
    output: str
    attempts: int
    started_at: float
    elapsed_seconds: float
    cpu_seconds: float | None
    peak_rss: int | None
    exit_code: int | None
    host: str

    @property
    def has_failed(self) -> bool:
        """Whether it came to its end without an output of its own."""
        return self.outcome != "completed"


@dataclass(frozen=True, slots=True)
class RunningItem:
    """An item whose handler runs, since so many ``seconds``; ``item`` is JSON text."""

    item_index: int
    item: str
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items to be added at a time: their places in the input, their keys of 16 bytes, and an array of them as JSON
    text. ``number`` is 1 for the first of a pass."""

    number: int
    item_indexes: Sequence[int]
    keys: bytes
    items: str


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding a chunk: how many items were new, None for a chunk that was added before; and of how many
    items the batch has then, ``unwritten`` are not in its files."""

    items_added: int | None
    items: int
    unwritten: int


def find(database: Database, name: str) -> KnownBatch | None:
    """The batch of that name, if there is one. Raises SchemaMissingError, and NotInContractError on another
    implementation's core."""
    try:
        row = database.fetch_one("find_batch", {"name": name})
    except psycopg.errors.InvalidSchemaName:
        raise SchemaMissingError from None
    except psycopg.errors.UndefinedTable:
        raise NotInContractError(what="batches") from None
    if row is None:
        return None
    kinds, paths, sizes = row.pop("kinds"), row.pop("paths"), row.pop("sizes")
    files = {kind: BatchFile(path, size) for kind, path, size in zip(kinds, paths, sizes, strict=True)}
    return KnownBatch(pass_number=row.pop("pass"), files=files, **row)


def references(database: Database, names: Sequence[str]) -> list[str]:
    """How the flows of the batches of these names are loaded. Raises BatchNotFoundError, and as ``find``."""
    return [require(database, name).reference for name in names]


def require(database: Database, name: str) -> KnownBatch:
    """As ``find``, but raises BatchNotFoundError."""
    batch = find(database, name)
    if batch is None:
        raise BatchNotFoundError(name=name, target=database.target)
    return batch


def create(
    database: Database, name: str, flow_slug: str, target: str, reference: str, files: Mapping[FileKind, str]
) -> BatchPass | None:
    """Make a batch, in its first pass; None if there is one of that name."""
    row = database.fetch_one(
        "create_batch",
        {
            "name": name,
            "flow_slug": flow_slug,
            "target": target,
            "reference": reference,
            "kinds": list(files),
            "paths": list(files.values()),
        },
    )
    assert row is not None
    return None if row["batch_id"] is None else BatchPass(database, row["batch_id"], flow_slug, 1, name)


@contextmanager
def opening(database: Database, name: str) -> Iterator[None]:
    """Until the end of the block nobody else is in one for a batch of that name; others wait."""
    with database.own_connection() as connection, connection.transaction():
        connection.execute(named_query("lock_batch_name"), {"name": name})
        yield


def begin_pass(
    database: Database,
    batch: KnownBatch,
    reference: str,
    files: Mapping[FileKind, str],
    *,
    emptied: Sequence[FileKind] = (),
) -> BatchPass:
    """Go through the batch's input once more; whoever worked for it before is fenced off.

    ``files`` that are new to it are added, those ``emptied`` begin anew; where errors are, the failed items are to run
    again. Raises BatchTakenOverError when the batch was deleted.
    """
    row = database.fetch_one(
        "begin_batch_pass",
        {
            "batch_id": batch.batch_id,
            "reference": reference,
            "kinds": list(files),
            "paths": list(files.values()),
            "emptied": list(emptied),
        },
    )
    if row is None or row["pass"] is None:
        raise BatchTakenOverError(name=batch.name)
    return BatchPass(database, batch.batch_id, batch.flow_slug, row["pass"], batch.name)


def delete(database: Database, name: str) -> None:
    """Delete the batch with all its runs, if there is one of that name. Its flow stays."""
    database.execute("delete_batch", {"name": name})


class BatchPass:
    """One pass of a batch; any thread may use it. What it does may be repeated after a connection was lost.

    Every call raises BatchTakenOverError once another process has begun a later pass, or deleted the batch; and
    DatabaseError or psycopg.Error.
    """

    def __init__(self, database: Database, batch_id: int, flow_slug: str, number: int, name: str) -> None:
        self._database = database
        self._batch_id = batch_id
        self._flow_slug = flow_slug
        self._number = number
        self._name = name

    def add(self, chunk: Chunk) -> Added:
        """Add what the batch does not have yet."""
        return self._add(
            "add_batch_items",
            chunk.number,
            keys=chunk.keys,
            items=chunk.items,
            item_indexes=list(chunk.item_indexes),
        )

    def retry_failures(self, number: int, limit: int) -> Added:
        """Run the next failed items again that are to, at most ``limit`` of them, as chunk ``number`` of this pass."""
        return self._add("retry_batch_failures", number, limit=limit)

    def _add(self, query: str, number: int, **values: object) -> Added:
        row = self._call(query, chunk=number, **values)
        self._require_ours(row is not None and row["verdict"] != "taken over")
        assert row is not None
        return Added(row["added"] if row["verdict"] == "next" else None, row["items"], row["unwritten"])

    @contextmanager
    def finished(self, limit: int, max_bytes: int, *, in_order: bool) -> Iterator[Iterator[FinishedItem]]:
        """A page of items that have ended and are not written, read one after the other: at most ``limit``, and no more
        after so many bytes of outputs as PostgreSQL has them. ``in_order``: none before which one is missing."""
        values = {"batch_id": self._batch_id, "limit": limit, "bytes": max_bytes, "in_order": in_order}
        with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(FinishedItem)) as cursor,
        ):
            cursor.execute(named_query("avoid_scans"))
            yield cursor.stream(named_query("finished_batch_items"), values)

    def mark_written(self, items: Mapping[str, RunBits], sizes: Mapping[FileKind, int]) -> None:
        """The outputs of these items, by run, are in the files, which have these sizes."""
        row = self._call(
            "mark_batch_written",
            run_ids=list(items),
            written=[bits.written_text() for bits in items.values()],
            failed=[bits.failed_text() for bits in items.values()],
            kinds=list(sizes),
            sizes=list(sizes.values()),
        )
        self._require_ours(row is not None and row["is_ours"])

    def touch(self) -> None:
        """Show that somebody works for the batch."""
        row = self._call("touch_batch")
        self._require_ours(row is not None and row["is_ours"])

    def unwritten(self) -> int:
        """How many items are not in the batch's files."""
        row = self._call("batch_unwritten")
        self._require_ours(row is not None)
        assert row is not None
        return int(row["unwritten"])

    def running(self, limit: int, slots: int) -> tuple[int, list[RunningItem]]:
        """How many items run, if each worker has so many ``slots``, and those that have run for longest."""
        with self._database.transaction() as transaction:
            transaction.fetch_all("avoid_scans")
            values = {"flow_slug": self._flow_slug, "limit": limit, "slots": slots}
            rows = transaction.fetch_all("running_batch_items", values)
        count = rows[0]["running"] if rows else 0
        return count, [
            RunningItem(*(row[name] for name in ("item_index", "item", "attempt", "seconds"))) for row in rows
        ]

    def set_timeout(self, seconds: int) -> None:
        """How long an item may run that begins from now on."""
        self._database.execute("set_batch_timeout", {"flow_slug": self._flow_slug, "seconds": seconds})

    def _call(self, query: str, **values: object) -> dict[str, Any] | None:
        return self._database.fetch_one(query, {"batch_id": self._batch_id, "pass": self._number, **values})

    def _require_ours(self, is_ours: bool) -> None:
        if not is_ours:
            raise BatchTakenOverError(name=self._name)


class RunBits:
    """Which items of a run are written, and which of them have failed."""

    def __init__(self, item_count: int) -> None:
        self._item_count = item_count
        self._written = 0
        self._failed = 0

    def add(self, task_index: int, *, has_failed: bool) -> None:
        """One more is written."""
        bit = 1 << (self._item_count - 1 - task_index)  # PostgreSQL counts bits from the left
        self._written |= bit
        self._failed |= bit if has_failed else 0

    def written_text(self) -> str:
        """A bit for each item, as PostgreSQL reads them."""
        return f"{self._written:0{self._item_count}b}"

    def failed_text(self) -> str:
        """The same for those that have failed."""
        return f"{self._failed:0{self._item_count}b}"
