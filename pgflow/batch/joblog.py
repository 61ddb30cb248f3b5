"""The job log: a row an item, tab-separated, as GNU parallel writes it, with three columns more at its end.

The first nine are parallel's, formatted as it does, so that what reads its logs (``parallel --resume-failed`` itself,
``sort``, ``awk``, spreadsheets, pandas) reads these: Seq from 1, Starttime in seconds since 1970, JobRuntime in
seconds, Send and Receive in bytes, here of the item's and the output's JSON text, Exitval and Signal both 0 for what
went well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgflow.outcome import Crashed, Failed, OutOfMemory, TimedOut

COLUMNS = (
    "Seq",
    "Host",
    "Starttime",
    "JobRuntime",
    "Send",
    "Receive",
    "Exitval",
    "Signal",
    "Command",
    "Attempts",
    "PeakRSS",
    "CPU",
)
HEADER = "\t".join(COLUMNS).encode()
MAX_COMMAND_CHARACTERS = 1_000

_FAILED = 1
_KILLED = 9
_TIMED_OUT = -1  # as parallel has it
_UNKNOWN = -1
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {9: "\\t", 10: "\\n", 13: "\\r"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How an item ended, as the columns Exitval and Signal tell: both 0, or it failed."""

    exit_value: int
    signal: int


SUCCEEDED = JobEnd(exit_value=0, signal=0)


def job_end(kind: str | None, exit_code: int | None = None) -> JobEnd:
    """The end of an item by the ``kind`` of its outcome, None for one that went well; ``exit_code`` is its process's,
    the number of a signal where it is negative. A kind that is not listed here counts as failed."""
    if kind is None:
        return SUCCEEDED
    return _ENDS.get(kind, _ENDS[Failed.kind])(exit_code)


_ENDS: dict[str, Callable[[int | None], JobEnd]] = {
    Failed.kind: lambda _: JobEnd(exit_value=_FAILED, signal=0),
    TimedOut.kind: lambda _: JobEnd(exit_value=_TIMED_OUT, signal=_KILLED),
    OutOfMemory.kind: lambda _: JobEnd(exit_value=0, signal=_KILLED),
    Crashed.kind: lambda code: (
        JobEnd(exit_value=0, signal=-code) if code and code < 0 else JobEnd(exit_value=code or _UNKNOWN, signal=0)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row: ``seq`` is the item's, from 1, ``started`` in seconds since 1970, ``runtime`` and ``cpu`` in seconds,
    ``sent``, ``received`` and ``peak_rss`` in bytes, ``command`` the target and the item's JSON text."""

    seq: int
    host: str
    started: float
    runtime: float
    sent: int
    received: int
    end: JobEnd
    command: str
    attempts: int
    peak_rss: int | None
    cpu: float | None


def row(job: Job) -> bytes:
    """The job as a line without its end. What is not known is empty; a long command is cut, and escaped where it would
    break the row."""
    fields = (
        str(job.seq),
        job.host,
        f"{job.started:.3f}",
        f"{job.runtime:10.3f}",
        str(job.sent),
        str(job.received),
        str(job.end.exit_value),
        str(job.end.signal),
        _one_line(job.command),
        str(job.attempts),
        "" if job.peak_rss is None else str(job.peak_rss),
        "" if job.cpu is None else f"{job.cpu:.3f}",
    )
    return "\t".join(fields).encode()


def _one_line(command: str) -> str:
    if len(command) > MAX_COMMAND_CHARACTERS:
        command = command[: MAX_COMMAND_CHARACTERS - 3] + "..."
    return command.translate(_ESCAPES)
