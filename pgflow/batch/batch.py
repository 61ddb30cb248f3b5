"""Batch: a file of items, a function, all cores, and a memory that survives whatever dies. Wires the parts of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import IO, Any

from pgflow.batch.collecting import Collector
from pgflow.batch.feeding import FailureSource, Feeder, InputSource, Source
from pgflow.batch.items import Item
from pgflow.batch.lookout import Lookout
from pgflow.batch.opening import OpenBatch, Opening
from pgflow.batch.options import BatchOptions
from pgflow.batch.readahead import ReadAhead, shuffled
from pgflow.batch.snapshot import Snapshot
from pgflow.batch.summary import Summary
from pgflow.batch.tally import Tally
from pgflow.batch.trouble import Trouble
from pgflow.database import Database
from pgflow.database.choice import open_database
from pgflow.database.failures import FAILURES
from pgflow.errors import WorkerStartError
from pgflow.worker import Worker, available_cores
from pgflow.worker.standby import Standby

URGENT_SECONDS = 3.0
"""After it was asked to end at once, the database gets so long to take over what was written."""
LOOK_SECONDS = 0.1
ADJUST_SECONDS = 2.0
"""How often a timeout in percent follows the median."""


class Batch:
    """Runs a batch: ``start``, then ``look`` until it ``is_over``, then ``stop`` and ``summary``; ``run`` does all of
    it.

    ``database`` is a Database, a URL, or None for the usual order of choice. ``tell`` gets a line at a time of what
    somebody should know; ``stderr`` is where the worker logs and functions print, as in Worker, and ``standby`` a
    dispatcher that waits for its order. Not for several threads, but ``end_at_once``, which signal handlers may call.
    """

    def __init__(
        self,
        database: Database | str | None,
        options: BatchOptions,
        *,
        tell: Callable[[str], None] = lambda _line: None,
        stderr: int | IO[Any] | None = None,
        standby: Standby | None = None,
    ) -> None:
        self._options = options
        self._tell = tell
        self._owns_database = not isinstance(database, Database)
        self._database = database if isinstance(database, Database) else open_database(database)
        self._opening = Opening(self._database, options)
        self.name = self._opening.name
        """What the batch is called."""
        self._slots = options.slots or available_cores()
        self._worker = Worker(
            self._database, [self._opening.reference], slots=self._slots, preload=options.preload, stderr=stderr
        )
        self._standby = standby
        self._reader = None if options.mode == "retry_failed" else options.reader()
        self._reading: ReadAhead | None = None
        self._trouble = Trouble(tell)
        self._tally = Tally()
        self._is_halted = False
        self._is_urgent = False
        self._adjusted = time.monotonic()
        self._elapsed = 0.0

    def run(self) -> Summary:
        """Run it to its end. Raises as ``start`` and ``stop`` do."""
        self.start()
        try:
            while not self.is_over:
                self.look()
                self._collector.wait_until_stopped(LOOK_SECONDS)
        finally:
            self.stop()
        return self.summary()

    # --- starting --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker, then feed it.

        Raises BatchExistsError, BatchNotFoundError, BatchMismatchError, OutputRefusedError, what keeps the worker from
        serving: FlowNotFoundError, FlowImportError, BatchTargetError, WorkerStartError; and DatabaseError.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self._close_database)
            undo.callback(self._worker.stop, timeout=0)
            self._worker.launch(self._standby)  # it takes most of a second
            self._opening.look()
            source = self._source()
            self._worker.start(self._opening.clear)
            self._begin(self._opening.open(), source)
            undo.pop_all()

    def _source(self) -> Source:
        if self._reader is None:
            return FailureSource()
        self._reading = ReadAhead(shuffled(self._reader) if self._options.shuffle else self._reader)
        self._reading.start()
        return InputSource(
            self._reading,
            self._skip if self._options.on_bad_line == "skip" else None,
            FailureSource() if self._options.mode == "resume" else None,
        )

    def _skip(self, item: Item, reason: str) -> None:
        self._tell(f"item {item.index} is left out, as it cannot be stored: {reason}")

    def _begin(self, opened: OpenBatch, source: Source) -> None:
        self._pass, self._files = opened.batch, opened.files
        self._earlier = opened.earlier
        self._lookout = Lookout(opened.batch, opened.earlier, self._slots, self._share_read)
        self._collector = Collector(
            opened.batch,
            opened.files,
            in_order=self._options.keep_order,
            on_page=self._tally.add,
            is_fed=lambda: self._feeder.is_over,
            trouble=self._trouble,
        )
        self._feeder = Feeder(
            opened.batch,
            source,
            finished=lambda: self._collector.written,
            rate=self._collector.rate,
            trouble=self._trouble,
        )
        self._feeder.start()
        self._collector.start()

    def _share_read(self) -> float | None:
        if self._reader is None or not self._reader.total_bytes:
            return None
        return self._reader.bytes_read / self._reader.total_bytes

    # --- running ---------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for: all is written, or something ends the batch before that."""
        return self._is_halted or self._collector.has_ended or self._failure() is not None

    @property
    def is_complete(self) -> bool:
        """Whether every item of the input is written."""
        return self._collector.is_complete

    def look(self) -> Snapshot:
        """How far the batch is. Decides whether it halts, and how long items may run from now on."""
        account, halt = self._tally.account(), self._options.halt
        if halt is not None and not self._is_halted and halt.is_due(account.failed, account.finished):
            self._is_halted = True
            self._tell(f"{account.failed:,} of {account.finished:,} items have failed: halting ({halt})")
        self._adjust_timeout(account.durations.median if account.durations else None, account.finished)
        return self._lookout.snapshot(account, self._items(), self._feeder.waiting())

    def _items(self) -> int | None:
        return self._feeder.items if self._feeder.is_over else None

    def _adjust_timeout(self, median: float | None, finished: int) -> None:
        timeout, now = self._options.timeout, time.monotonic()
        if timeout is None or timeout.percent is None or now < self._adjusted + ADJUST_SECONDS:
            return
        self._adjusted = now
        with contextlib.suppress(*FAILURES):  # the next time, then
            self._pass.set_timeout(timeout.following(median, finished))

    def _failure(self) -> BaseException | None:
        """What ends the batch before everything is written."""
        failure = self._feeder.failure or self._collector.failure
        if failure is None and not self._worker.is_running:
            return WorkerStartError(message=f"The worker ended before batch {self.name} did; its log says why")
        return failure

    def end_at_once(self) -> None:
        """Let a ``stop`` that waits return soon: what still runs is killed and handed back. For signal handlers."""
        self._is_urgent = True
        self._worker.end_at_once()

    # --- ending ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start nothing more, let what runs finish, write it. Raises what ended the batch before it was over:
        BadLineError, OutputNotWrittenError, BrokenPipeError, BatchTakenOverError, WorkerStartError."""
        failure = None if self.is_complete else self._failure()
        self._feeder.stop()
        if self._reading is not None:
            self._reading.stop()
        halt = self._options.halt
        self._worker.stop(timeout=0 if self._is_halted and halt is not None and halt.when == "now" else None)
        self._collector.finish()
        self._wait_for_collector()
        self._files.close()
        self._elapsed = self._lookout.elapsed
        self._outcome = None
        with contextlib.suppress(*FAILURES):
            self._outcome = self._opening.outcome()
        self._close_database()
        failure = failure or self._collector.failure
        if failure is not None:
            raise failure

    def _wait_for_collector(self) -> None:
        urgent_since: float | None = None
        while not self._collector.wait_until_stopped(LOOK_SECONDS):
            if self._is_urgent and urgent_since is None:
                urgent_since = time.monotonic()
            if urgent_since is not None and time.monotonic() > urgent_since + URGENT_SECONDS:
                self._collector.abandon()

    def _close_database(self) -> None:
        if self._owns_database:
            self._database.close()

    def summary(self, next_command: str | None = None) -> Summary:
        """What came of it, once it has stopped. ``next_command`` is what goes on with it."""
        account, outcome = self._tally.account(), self._outcome
        failed = outcome.failures if outcome else self._earlier.failed + account.failed
        earlier = self._earlier.done + self._earlier.failed
        written = outcome.items - outcome.unwritten if outcome else earlier + account.finished
        return Summary(
            name=self.name,
            items=self._items(),
            done=written - failed,
            failed=failed,
            wall_seconds=self._elapsed,
            cpu_seconds=account.cpu_seconds,
            earlier=earlier,
            retried=account.retried,
            skipped=self._reader.skipped if self._reader else 0,
            bad_lines=self._reader.bad_lines if self._reader else (),
            durations=account.durations,
            slowest=account.slowest,
            causes=account.causes,
            other_causes=account.other_causes,
            next_command=next_command,
        )
