"""Batch: a file of items, a function, all cores, and a memory that survives whatever dies. Wires the parts of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import IO, Any, NoReturn

from pgflow.batch import naming
from pgflow.batch.collecting import Collector
from pgflow.batch.feeding import FailureSource, Feeder, InputSource, Source
from pgflow.batch.files import BatchFiles, paths, require_unlocked, require_vacant
from pgflow.batch.items import Item
from pgflow.batch.options import BatchOptions
from pgflow.batch.readahead import ReadAhead, shuffled
from pgflow.batch.tally import Tally
from pgflow.batch.trouble import Trouble
from pgflow.database import Database, batches, capabilities, schema
from pgflow.database.batches import BatchPass, FileKind, KnownBatch
from pgflow.database.choice import open_database
from pgflow.database.failures import FAILURES
from pgflow.errors import BatchExistsError, BatchMismatchError, NotInContractError, WorkerStartError
from pgflow.worker import Worker

URGENT_SECONDS = 3.0
"""After it was asked to end at once, the database gets so long to take over what was written."""
LOOK_SECONDS = 0.1
ADJUST_SECONDS = 2.0
"""How often a timeout in percent follows the median."""


class Batch:
    """Runs a batch: ``start``, then ``look`` until it ``is_over``, then ``stop``; ``run`` does all of it.

    Not to be used from several threads, but ``end_at_once`` from signal handlers. ``tell`` gets a line at a time of
    what somebody should know; ``stderr`` is where the worker logs, as in Worker.
    """

    def __init__(
        self,
        database: Database | str | None,
        options: BatchOptions,
        *,
        tell: Callable[[str], None] = lambda _line: None,
        stderr: int | IO[Any] | None = None,
    ) -> None:
        self._options = options
        self.name = options.batch_name()
        """What the batch is called."""
        self._flow_slug = naming.flow_slug(self.name)
        target = options.batch_target(self._flow_slug)
        self._target, self._reference = target.target, target.reference()
        self._wanted = paths(options.output, options.joblog, errors_in_output=options.errors_in_output)
        self._tell = tell
        self._owns_database = not isinstance(database, Database)
        self._database = database if isinstance(database, Database) else open_database(database)
        self._worker = Worker(
            self._database, [self._reference], slots=options.slots, preload=options.preload, stderr=stderr
        )
        self._reader = None if options.mode == "retry_failed" else options.reader()
        self._reading: ReadAhead | None = None
        self._trouble = Trouble(tell)
        self.tally = Tally()
        """What was written in this pass."""
        self.failures: int | None = None
        """How many of all items of the batch have failed, once it has stopped; None if the database did not tell."""
        self._is_halted = False
        self._is_urgent = False
        self._timeout: int | None = None
        self._adjusted = 0.0

    # --- starting --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker, and feed it.

        Raises BatchExistsError, BatchNotFoundError, and what keeps the worker from serving: FlowNotFoundError,
        FlowImportError, BatchTargetError, DatabaseError, WorkerStartError; what is wrong with the input or the files.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self._worker.stop, timeout=0)
            self._worker.launch()  # it takes most of a second
            known = self._known()
            source = self._source()
            self._worker.start()
            self._pass, self._files = self._begun(known)
            undo.callback(self._files.close)
            self._collector = Collector(
                self._pass,
                self._files,
                in_order=self._options.keep_order,
                on_page=self.tally.add,
                is_fed=lambda: self._feeder.is_over,
                trouble=self._trouble,
            )
            self._feeder = Feeder(
                self._pass,
                source,
                finished=lambda: self._collector.written,
                rate=self._collector.rate,
                trouble=self._trouble,
            )
            self._feeder.start()
            self._collector.start()
            undo.pop_all()

    def _known(self) -> KnownBatch | None:
        """The batch in the database, if it may go on, or must."""
        with self._database.connection() as connection:
            schema.ensure(connection)
            if not capabilities.look(connection).is_ours:
                raise NotInContractError(what="batches")
        known = batches.find(self._database, self.name)
        match self._options.mode:
            case "new":
                if known is not None:
                    raise _exists(known)
                require_vacant(self._wanted)
            case "resume" | "retry_failed":
                known = known or batches.require(self._database, self.name)
                self._require_same(known)
        return known

    def _require_same(self, known: KnownBatch) -> None:
        if known.target != self._target:
            self._refuse(f"target {known.target}", self._target)
        output = known.files.get("output")
        if "output" in self._wanted and (output is None or output.path != self._wanted["output"]):
            self._refuse(f"output {output.path if output else 'to standard output'}", self._wanted["output"])

    def _refuse(self, found: str, wanted: str) -> NoReturn:
        raise BatchMismatchError(name=self.name, found=found, wanted=wanted)

    def _source(self) -> Source:
        if self._reader is None:
            return FailureSource()
        items = shuffled(self._reader) if self._options.shuffle else self._reader
        self._reading = ReadAhead(items)
        self._reading.start()
        return InputSource(self._reading, self._skip if self._options.on_bad_line == "skip" else None)

    def _skip(self, item: Item, reason: str) -> None:
        self._tell(f"item {item.index} is left out, as it cannot be stored: {reason}")

    def _begun(self, known: KnownBatch | None) -> tuple[BatchPass, BatchFiles]:
        options, in_output = self._options, self._options.errors_in_output
        if options.mode in ("resume", "retry_failed"):
            assert known is not None
            require_unlocked(known.files)  # whoever still works for the batch keeps it
            new = {kind: path for kind, path in self._wanted.items() if kind not in known.files}
            require_vacant(new)
            emptied: list[FileKind] = ["errors"] if options.mode == "retry_failed" else []
            begun = batches.begin_pass(self._database, known, self._reference, new, emptied=emptied)
            # Only now: somebody's last word may have come in between.
            files = batches.require(self._database, self.name).files
            return begun, BatchFiles.resume(files, errors_in_output=in_output, target=self._target)
        if options.mode == "overwrite":
            batches.delete(self._database, self.name)
        made = batches.create(self._database, self.name, self._flow_slug, self._target, self._reference, self._wanted)
        if made is None:
            raise _exists(batches.require(self._database, self.name))
        return made, BatchFiles.create(
            self._wanted, overwrite=options.mode == "overwrite", errors_in_output=in_output, target=self._target
        )

    # --- running ---------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for: all is written, or something ends the batch before that."""
        return self._is_halted or self._collector.has_ended or self._failure() is not None

    @property
    def is_complete(self) -> bool:
        """Whether every item of the input is written."""
        return self._collector.is_complete

    def look(self) -> None:
        """How far the batch is; decides whether it halts, and how long items may run from now on."""
        tally, halt = self.tally, self._options.halt
        if halt is not None and not self._is_halted and halt.is_due(tally.failed, tally.finished):
            self._is_halted = True
            self._tell(f"{tally.failed:,} of {tally.finished:,} items have failed: halting ({halt})")
        self._adjust_timeout()

    def _adjust_timeout(self) -> None:
        timeout, now = self._options.timeout, time.monotonic()
        if timeout is None or timeout.percent is None or now < self._adjusted + ADJUST_SECONDS:
            return
        self._adjusted = now
        seconds = timeout.following(self.tally.median(), self.tally.finished)
        with contextlib.suppress(*FAILURES):  # the next time, then
            self._pass.set_timeout(seconds)

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
        """Start nothing more, let what runs finish, write it. Raises what ended the batch before it was over."""
        failure = self._failure()
        self._feeder.stop()
        if self._reading is not None:
            self._reading.stop()
        at_once = self._is_halted and self._options.halt is not None and self._options.halt.when == "now"
        self._worker.stop(timeout=0 if at_once else None)
        self._collector.finish()
        self._wait_for_collector()
        self._files.close()
        with contextlib.suppress(*FAILURES):
            self.failures = batches.require(self._database, self.name).failures
        self._close_database()
        if failure is None:
            failure = self._feeder.failure or self._collector.failure
        if failure is not None and not self._collector.is_complete:
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


def _exists(known: KnownBatch) -> BatchExistsError:
    return BatchExistsError(
        name=known.name, items=known.items, written=known.items - known.unwritten, failures=known.failures
    )
