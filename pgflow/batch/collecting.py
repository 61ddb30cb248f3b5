"""Collector: what has ended is written into the batch's files, once, whatever dies."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pgflow.batch.files import BatchFiles
from pgflow.batch.trouble import Trouble
from pgflow.database.batches import BatchPass, FinishedItem, RunBits
from pgflow.database.failures import FAILURES

PAGE_ITEMS = 2_000
PAGE_BYTES = 8 << 20
"""Of outputs as PostgreSQL stores them, which may be compressed; and as text, which is what is held here."""
PAGE_CHARACTERS = 32 << 20
LONGEST_LOOK_SECONDS = 0.25
SHORTEST_LOOK_SECONDS = 0.02
"""A look costs a millisecond or two: as often as that only while nothing has come for long, and near the end."""
FEW_ITEMS = 200
TOUCH_SECONDS = 60.0
RATE_SECONDS = 5.0


class Collector:
    """Follows the items that have ended and are not written: a page of them is appended to the files, then marked as
    written together with the files' new sizes, in one transaction. Whoever goes on after a crash cuts the files back to
    the sizes that are known, so that no line is missing and none is there twice.

    Thread: ``pgflow-batch-collector`` runs ``_loop``. ``on_page`` is called there with what was written; ``is_fed``
    says whether all items are in the database. A database that is away is waited for.
    """

    def __init__(
        self,
        batch: BatchPass,
        files: BatchFiles,
        *,
        in_order: bool,
        on_page: Callable[[Sequence[FinishedItem]], None],
        is_fed: Callable[[], bool],
        trouble: Trouble,
    ) -> None:
        self._batch = batch
        self._files = files
        self._in_order = in_order
        self._on_page = on_page
        self._is_fed = is_fed
        self._trouble = trouble
        self._ending = threading.Event()
        self._abandoned = threading.Event()
        self._touched = time.monotonic()
        self._ends: deque[tuple[float, int]] = deque()
        self.written = 0
        """How many items were written in this pass."""
        self.is_complete = False
        """Whether everything is written, and nothing more can come."""
        self.failure: BaseException | None = None
        """What ended it before that."""
        self._thread = threading.Thread(target=self._loop, name="pgflow-batch-collector", daemon=True)

    def start(self) -> None:
        """Start collecting."""
        self._thread.start()

    def finish(self) -> None:
        """Write what has ended so far, then end."""
        self._ending.set()

    def abandon(self) -> None:
        """End without waiting for a database that is away."""
        self._abandoned.set()
        self._ending.set()

    def wait_until_stopped(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until it has ended; whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended: everything is written, or something keeps it from that."""
        return not self._thread.is_alive()

    def rate(self) -> float:
        """How many items have ended in a second, lately."""
        ends = tuple(self._ends)
        if not ends:
            return 0.0
        return sum(count for _, count in ends) / max(time.monotonic() - ends[0][0], 1.0)

    def _loop(self) -> None:
        try:
            pause = SHORTEST_LOOK_SECONDS
            while not self._abandoned.is_set():
                was_ending, was_fed = self._ending.is_set(), self._is_fed()
                count = self._turn()
                if not count and was_fed and self._has_nothing_left():
                    self.is_complete = True
                    return
                if was_ending and not count and not self._trouble.is_there:
                    return
                pause = min(pause * 1.5, LONGEST_LOOK_SECONDS) if count < FEW_ITEMS else LONGEST_LOOK_SECONDS
                if count < PAGE_ITEMS:
                    self._ending.wait(pause)
        except BaseException as error:  # noqa: BLE001 - the batch's thread raises it
            self.failure = error

    def _turn(self) -> int:
        """Write a page; how many items that were."""
        try:
            self._touch()
            items = self._read()
            self._trouble.is_over("reading results")
        except FAILURES as error:
            self._trouble.wait("reading results", error, self._abandoned)
            return 0
        if items:
            self._files.append(items)
            self._mark(items)
            self._note(len(items))
            self._on_page(items)
        return len(items)

    def _read(self) -> list[FinishedItem]:
        page: list[FinishedItem] = []
        characters = 0
        with self._batch.finished(PAGE_ITEMS, PAGE_BYTES, in_order=self._in_order) as items:
            for item in items:
                page.append(item)
                characters += len(item.output) + len(item.item)
                if characters > PAGE_CHARACTERS:
                    break
        return page

    def _mark(self, items: Sequence[FinishedItem]) -> None:
        """The files have them; the database is told, however long it is away."""
        bits: dict[str, RunBits] = {}
        for item in items:
            run = bits.get(item.run_id)
            if run is None:
                run = bits[item.run_id] = RunBits(item.item_count)
            run.add(item.task_index, has_failed=item.has_failed)
        while not self._abandoned.is_set():
            try:
                self._batch.mark_written(bits, self._files.sizes())
            except FAILURES as error:
                self._trouble.wait("noting what was written", error, self._abandoned)
            else:
                self._trouble.is_over("noting what was written")
                return

    def _note(self, count: int) -> None:
        now = time.monotonic()
        self.written += count
        self._ends.append((now, count))
        while self._ends[0][0] < now - RATE_SECONDS and len(self._ends) > 1:
            self._ends.popleft()

    def _touch(self) -> None:
        if time.monotonic() - self._touched >= TOUCH_SECONDS:
            self._batch.touch()
            self._touched = time.monotonic()

    def _has_nothing_left(self) -> bool:
        try:
            return self._batch.unwritten() == 0
        except FAILURES as error:
            self._trouble.wait("reading results", error, self._abandoned)
            return False
