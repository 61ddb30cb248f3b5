"""What there is to say of a batch at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgflow.batch.durations import Spread


@dataclass(frozen=True, slots=True)
class Running:
    """An item that runs: what it is, for how many seconds, and in which attempt."""

    text: str
    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that failed: its index among the input's, what it is, why, and after how many seconds."""

    index: int
    text: str
    cause: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a batch is.

    ``total`` is None while the input is still read, ``read`` then says which share of it has been, None for a pipe.
    ``done`` and ``failed`` items have finished, ``earlier`` of them before this session began; ``retried`` ones needed
    another attempt. ``elapsed`` is in seconds since the session began. ``running`` holds those that run, or the slowest
    of them, ``failures`` the last, oldest first. ``durations`` are those of this session's items. ``cores`` is how many
    CPUs its processes keep busy, ``memory`` how many bytes they have resident.
    """

    total: int | None
    done: int
    failed: int
    elapsed: float
    read: float | None = None
    earlier: int = 0
    retried: int = 0
    running_count: int = 0
    queued: int = 0
    running: Sequence[Running] = ()
    failures: Sequence[Failure] = ()
    durations: Spread | None = None
    cores: float | None = None
    memory: int | None = None

    @property
    def finished(self) -> int:
        """Items that will not run again."""
        return self.done + self.failed
