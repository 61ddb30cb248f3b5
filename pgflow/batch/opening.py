"""Opening a batch: whether it is a new one or goes on, and what it has come to before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from pgflow.batch import naming
from pgflow.batch.files import (
    BatchFiles,
    paths,
    require_distinct,
    require_folders,
    require_unlocked,
    require_vacant,
)
from pgflow.batch.options import BatchOptions
from pgflow.database import Database, batches, capabilities, schema
from pgflow.database.batches import BatchPass, FileKind, KnownBatch
from pgflow.errors import (
    BatchExistsError,
    BatchMismatchError,
    NotInContractError,
    OutputRefusedError,
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """Items that were written before this session: of those ``failed`` some may run again in it."""

    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch in a pass of its own, with its files."""

    batch: BatchPass
    files: BatchFiles
    earlier: Earlier


class Opening:
    """What is to be opened. ``name`` is what the batch is called, ``reference`` how workers load its flow."""

    def __init__(self, database: Database, options: BatchOptions) -> None:
        self._database = database
        self._options = options
        self.name = options.batch_name()
        self._flow_slug = naming.flow_slug(self.name)
        target = options.batch_target(self._flow_slug)
        self._target = target.target
        self.reference = target.reference()
        self._wanted = paths(options.output, options.joblog, errors_in_output=options.errors_in_output)
        require_distinct(self._wanted, options.source)
        self._known: KnownBatch | None = None

    def look(self) -> None:
        """See that it can be opened; nothing is changed but that the SQL core is installed where it is missing.

        Raises BatchExistsError, BatchNotFoundError, BatchMismatchError, OutputRefusedError, and DatabaseError.
        """
        with self._database.connection() as connection:
            schema.ensure(connection)
            if not capabilities.look(connection).is_ours:
                raise NotInContractError(what="batches")
        require_folders(self._wanted.values())
        self._known = batches.find(self._database, self.name)
        match self._options.mode:
            case "new":
                if self._known is not None:
                    raise _exists(self._known)
                require_vacant(self._wanted)
            case "overwrite":
                self._require_nobody_writes(self._known)
            case "resume" | "retry_failed":
                self._known = self._known or batches.require(self._database, self.name)
                self._require_same(self._known)
                _require_idle(self._known)

    def _require_nobody_writes(self, known: KnownBatch | None) -> None:
        """Whoever works for what is to be deleted keeps it."""
        require_unlocked(self._wanted.values())
        if known is not None:
            _require_idle(known)

    def _require_same(self, known: KnownBatch) -> None:
        if known.target != self._target:
            self._refuse(f"target {known.target}", self._target)
        output = known.files.get("output")
        if "output" in self._wanted and (output is None or output.path != self._wanted["output"]):
            self._refuse(f"output {output.path if output else 'to standard output'}", self._wanted["output"])
        for kind in self._wanted.keys() & known.files.keys():
            if known.files[kind].path != self._wanted[kind]:
                self._refuse(f"{kind} {known.files[kind].path}", self._wanted[kind])

    def _refuse(self, found: str, wanted: str) -> NoReturn:
        raise BatchMismatchError(name=self.name, found=found, wanted=wanted)

    def clear(self) -> None:
        """Delete what is to be overwritten; after ``look``, once a worker has loaded the target and before it serves
        the flow: it would work on what is left of the batch. Raises as ``look`` does."""
        if self._options.mode == "overwrite" and self._known is not None:
            with batches.opening(self._database, self.name):
                self._require_nobody_writes(self._known)
                batches.delete(self._database, self.name)

    def open(self) -> OpenBatch:
        """Open it; after ``clear``, once a worker serves its flow. Raises as ``look`` does."""
        with batches.opening(self._database, self.name):  # of two at a time one has its files locked before the other
            if self._options.mode in ("resume", "retry_failed"):
                assert self._known is not None
                return self._gone_on(self._known)
            return self._made()

    def _made(self) -> OpenBatch:
        made = batches.create(self._database, self.name, self._flow_slug, self._target, self.reference, self._wanted)
        if made is None:  # another has made it meanwhile, and writes to its files by now
            known = batches.require(self._database, self.name)
            _require_idle(known)
            raise _exists(known)
        try:
            files = BatchFiles.create(
                self._wanted,
                overwrite=self._options.mode == "overwrite",
                errors_in_output=self._options.errors_in_output,
                target=self._target,
            )
        except OutputRefusedError:  # then there is no batch either, so that the same command works once that is mended
            batches.delete(self._database, self.name)
            raise
        return OpenBatch(made, files, Earlier())

    def _gone_on(self, known: KnownBatch) -> OpenBatch:
        _require_idle(known)
        new = {kind: path for kind, path in self._wanted.items() if kind not in known.files}
        require_vacant(new)
        emptied: list[FileKind] = ["errors"] if self._options.mode == "retry_failed" else []
        begun = batches.begin_pass(self._database, known, self.reference, new, emptied=emptied)
        # Only now: somebody's last word may have come in between.
        known = batches.require(self._database, self.name)
        files = BatchFiles.resume(known.files, errors_in_output=self._options.errors_in_output, target=self._target)
        done = known.items - known.unwritten - known.failures
        return OpenBatch(begun, files, Earlier(done, known.failures))

    def outcome(self) -> KnownBatch:
        """What the batch has come to. Raises DatabaseError or psycopg.Error."""
        return batches.require(self._database, self.name)


def _require_idle(known: KnownBatch) -> None:
    """Whoever still works for a batch keeps it."""
    require_unlocked(file.path for file in known.files.values())


def _exists(known: KnownBatch) -> BatchExistsError:
    return BatchExistsError(
        name=known.name, items=known.items, written=known.items - known.unwritten, failures=known.failures
    )
