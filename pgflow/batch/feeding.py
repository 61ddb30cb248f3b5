"""Feeder: items become runs in the database, some way ahead of who works on them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from pgflow.batch.items import Item
from pgflow.batch.readahead import CHUNK_ITEMS, ReadAhead
from pgflow.batch.trouble import Trouble
from pgflow.database.batches import Added, BatchPass, Chunk
from pgflow.database.failures import FAILURES, in_short, is_bad_value
from pgflow.errors import BatchItemError

logger = logging.getLogger(__name__)

FIRST_ITEMS = 100
"""Of the first chunk: while it is worked on the next one is added."""
LEAST_AHEAD = 4 * CHUNK_ITEMS
AHEAD_SECONDS = 60.0
MOST_AHEAD = 50_000
"""So many items, or what is done in so many seconds, wait in the database."""
LOOK_SECONDS = 0.1


class Source(Protocol):
    """Where the items of a pass come from."""

    def add_next(self, batch: BatchPass) -> Added | None:
        """Add the next chunk; None when nothing has come yet. May be called again after it has failed."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to add."""


class FailureSource:
    """The items that have failed before and are to run again. ``number`` is that of the chunk that comes next."""

    def __init__(self) -> None:
        self.number = 1
        self._is_over = False

    def add_next(self, batch: BatchPass) -> Added:
        """As in Source."""
        added = batch.retry_failures(self.number, CHUNK_ITEMS)
        self.number += 1
        self._is_over = added.items_added == 0
        return added

    @property
    def is_over(self) -> bool:
        """As in Source."""
        return self._is_over


class InputSource:
    """The items of an input, after the ``failures`` that a retry has left which was interrupted. ``skip`` is called for
    an item that PostgreSQL cannot hold; without, it ends the pass."""

    def __init__(
        self, reading: ReadAhead, skip: Callable[[Item, str], None] | None, failures: FailureSource | None
    ) -> None:
        self._reading = reading
        self._skip = skip
        self._failures = failures
        self._number = 0
        self._is_first = True
        self._pending: list[Sequence[Item]] = []
        """Chunks that were read and are not known to be added, the next one last."""

    def add_next(self, batch: BatchPass) -> Added | None:
        """As in Source. Raises what reading raised, and BatchItemError."""
        if self._failures is not None:
            return self._add_failures(self._failures, batch)
        if not self._pending:
            items = self._reading.take(LOOK_SECONDS)
            if not items:
                return None
            self._number += 1
            self._pending = [items[FIRST_ITEMS:], items[:FIRST_ITEMS]] if self._is_first else [items]
            self._is_first = False
            self._pending = [part for part in self._pending if part]
        chunk = self._pending[-1]
        try:
            added = batch.add(_chunk_of(self._number, chunk))
        except FAILURES as error:
            if not is_bad_value(error):
                raise
            self._halve(chunk, in_short(error))
            return None
        self._drop()
        return added

    def _add_failures(self, failures: FailureSource, batch: BatchPass) -> Added:
        added = failures.add_next(batch)
        if failures.is_over:
            self._number, self._failures = failures.number - 1, None
        return added

    def _halve(self, chunk: Sequence[Item], refusal: str) -> None:
        """Of a chunk that was refused each half for itself, until the bad item is alone."""
        if len(chunk) > 1:
            middle = len(chunk) // 2
            self._pending[-1:] = [chunk[middle:], chunk[:middle]]
            return
        if self._skip is None:
            raise BatchItemError(index=chunk[0].index, item=chunk[0].json[:200], reason=refusal)
        self._skip(chunk[0], refusal)
        self._drop()

    def _drop(self) -> None:
        self._pending.pop()
        if self._pending:
            self._number += 1

    @property
    def is_over(self) -> bool:
        """As in Source."""
        return self._failures is None and not self._pending and self._reading.is_over


def _chunk_of(number: int, items: Sequence[Item]) -> Chunk:
    return Chunk(
        number,
        [item.index for item in items],
        b"".join(item.key for item in items),
        f"[{','.join(item.json for item in items)}]",
    )


class Feeder:
    """Adds the items of a source to the batch, while not too many wait.

    Thread: ``pgflow-feeder`` runs ``_loop``. ``finished`` tells how many items have been written in this pass, ``rate``
    how many are finished in a second. A database that is away is waited for.
    """

    def __init__(
        self,
        batch: BatchPass,
        source: Source,
        *,
        finished: Callable[[], int],
        rate: Callable[[], float],
        trouble: Trouble,
    ) -> None:
        self._batch = batch
        self._source = source
        self._finished = finished
        self._rate = rate
        self._trouble = trouble
        self._stopping = threading.Event()
        self._waiting = 0
        self.items: int | None = None
        """How many items the batch has, once something was added."""
        self.failure: BaseException | None = None
        """What ended it before its source was over."""
        self.is_over = False
        """Whether all items of the source are in the database."""
        self._thread = threading.Thread(target=self._loop, name="pgflow-feeder", daemon=True)

    def start(self) -> None:
        """Start feeding."""
        self._thread.start()

    def stop(self) -> None:
        """Add nothing more."""
        self._stopping.set()

    def _loop(self) -> None:
        try:
            while not self._stopping.is_set() and not self._source.is_over:
                if self._has_room():
                    self._turn()
                else:
                    self._stopping.wait(LOOK_SECONDS)
            self.is_over = self._source.is_over
        except BaseException as error:  # noqa: BLE001 - the batch's thread raises it
            self.failure = error

    def waiting(self) -> int:
        """About how many items are in the database and not written."""
        return max(self._waiting - self._finished(), 0)

    def _has_room(self) -> bool:
        ahead = min(max(LEAST_AHEAD, self._rate() * AHEAD_SECONDS), MOST_AHEAD)
        return self.waiting() < ahead

    def _turn(self) -> None:
        finished = self._finished()
        try:
            added = self._source.add_next(self._batch)
        except FAILURES as error:
            self._trouble.wait("adding items", error, self._stopping)
            return
        self._trouble.is_over("adding items")
        if added is not None:
            self._waiting = added.unwritten + finished
            self.items = added.items
