"""The files of a batch: its outputs, its failures, its job log."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence

from pgflow.batch import joblog, lines, outputs
from pgflow.batch.outputs import STANDARD_OUTPUT, LineFile
from pgflow.batch.reading.source import STANDARD_INPUT
from pgflow.database.batches import BatchFile, FileKind, FinishedItem
from pgflow.errors import UsageError

ERRORS_SUFFIX = ".errors.jsonl"


def paths(output: str | None, job_log: str | None, *, errors_in_output: bool) -> dict[FileKind, str]:
    """The absolute paths of the files that a batch writes with these options, the same through whatever folder's name;
    without ``output`` that is standard output. Beside that, and a device or a pipe, failures have no file."""
    found: dict[FileKind, str] = {}
    if output is not None:
        found["output"] = _absolute(output)
        if not errors_in_output and not outputs.is_special(output):
            found["errors"] = found["output"] + ERRORS_SUFFIX
    if job_log is not None:
        found["joblog"] = _absolute(job_log)
    return found


def _absolute(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)  # not the file's own name: /dev/stdout is a link


def require_distinct(wanted: Mapping[FileKind, str], source: str) -> None:
    """Raises UsageError where two of the files are the same, or one is the input, which would be overwritten."""
    names = {_identity(0 if source == STANDARD_INPUT else source): "the input"}
    for kind, path in wanted.items():
        identity = _identity(path)
        if identity is not None and identity in names:
            raise UsageError(message=f"{path} is {names[identity]} already: name another file for the {kind}")
        names[identity] = f"the file for the {kind}"


def _identity(place: str | int) -> object:
    """What is the same for two names, or descriptors, of a file; None for what is no file."""
    try:
        status = os.stat(place)
    except (OSError, ValueError):
        return place or None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def require_vacant(wanted: Mapping[FileKind, str]) -> None:
    """Raises OutputRefusedError for a file that exists."""
    for path in wanted.values():
        outputs.require_vacant(path)


def require_unlocked(paths: Iterable[str]) -> None:
    """Raises OutputRefusedError for a file that another batch is writing to."""
    for path in paths:
        outputs.require_unlocked(path)


def require_folders(paths: Iterable[str]) -> None:
    """Raises OutputRefusedError for a file that cannot be made, as it has no folder that may be written to."""
    for path in paths:
        outputs.require_folder(path)


class BatchFiles:
    """Open files, each locked for this process. For one thread. ``target`` is what the job log says was run.

    Without an output file lines are printed. What was printed cannot be taken back: after a crash the last lines may
    come again.
    """

    def __init__(self, files: Mapping[FileKind, LineFile], *, errors_in_output: bool, target: str) -> None:
        self._files = files
        self._output = files.get("output") or LineFile.create(STANDARD_OUTPUT, overwrite=False)
        self._errors = self._output if errors_in_output else files.get("errors")
        self._joblog = files.get("joblog")
        self._target = target

    @staticmethod
    def create(wanted: Mapping[FileKind, str], *, overwrite: bool, errors_in_output: bool, target: str) -> BatchFiles:
        """New files, all or none. Raises as ``LineFile.create``."""
        files: dict[FileKind, LineFile] = {}
        with contextlib.ExitStack() as undo:
            for kind, path in wanted.items():
                files[kind] = LineFile.create(path, overwrite=overwrite)
                undo.callback(files[kind].close if overwrite else files[kind].discard)
            created = BatchFiles(files, errors_in_output=errors_in_output, target=target)
            undo.pop_all()
        return created

    @staticmethod
    def resume(known: Mapping[FileKind, BatchFile], *, errors_in_output: bool, target: str) -> BatchFiles:
        """The files of a batch, cut back to what is known to be written. Raises as ``LineFile.resume``."""
        files = {kind: LineFile.resume(file.path, file.size) for kind, file in known.items()}
        return BatchFiles(files, errors_in_output=errors_in_output, target=target)

    def append(self, items: Sequence[FinishedItem]) -> None:
        """Add the lines of these items, so that they are on the disk. Raises as ``LineFile.append``: a file then has
        none of them, or is longer than is known, which ``resume`` mends."""
        good = [item for item in items if not item.has_failed or self._errors is self._output]
        self._output.append(map(_line, good))
        if self._errors is not None and len(good) < len(items):
            self._errors.append(_line(item) for item in items if item.has_failed)
        if self._joblog is not None:
            header = [] if self._joblog.size else [joblog.HEADER]
            self._joblog.append([*header, *map(self._row, items)])

    def _row(self, item: FinishedItem) -> bytes:
        return joblog.row(
            joblog.Job(
                seq=item.item_index + 1,
                host=item.host,
                started=item.started_at,
                runtime=item.elapsed_seconds,
                sent=len(item.item.encode()),
                received=len(item.output.encode()),
                end=joblog.job_end(item.outcome if item.has_failed else None, item.exit_code),
                command=f"{self._target} {item.item}",
                attempts=item.attempts,
                peak_rss=item.peak_rss,
                cpu=item.cpu_seconds,
            )
        )

    def sizes(self) -> dict[FileKind, int]:
        """How many bytes each file has."""
        return {kind: file.size for kind, file in self._files.items()}

    def close(self) -> None:
        """Close and unlock them. Where nothing has failed no file of failures is left; ``resume`` makes it anew."""
        errors = self._files.get("errors")
        if errors is not None and not errors.size:
            errors.discard()
        for file in (*self._files.values(), self._output):
            file.close()


def _line(item: FinishedItem) -> bytes:
    make = lines.error_line if item.has_failed else lines.output_line
    return make(item.item_index, item.item, item.output)
