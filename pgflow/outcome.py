"""What can become of a task: plain data, made where the task ended, matched in one place.

Every outcome but ``Completed`` and ``Released`` carries ``error``, the text for the task's
``error_message``: its first line is a sentence that stands on its own, and ``kind``, the outcome in a word, as the
history of attempts has it. ``evidence`` is what was seen of the attempt, as JSON values by name, for the
history; it does not count when outcomes are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

NO_RETRY = -1
Evidence = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler returned; ``output`` is JSON text that jsonb accepts."""

    output: str
    evidence: Evidence = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised, or its input or output was not usable.

    ``retry_delay`` is in whole seconds; None for the step's own delay, ``NO_RETRY`` for no further attempt.
    """

    kind: ClassVar[str] = "failed"
    error: str
    retry_delay: int | None = None
    evidence: Evidence = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The process was killed at the task's deadline; ``timeout`` in seconds."""

    kind: ClassVar[str] = "timed_out"
    error: str
    timeout: float
    evidence: Evidence = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process ended without a verdict of its own; ``exit_code`` is negative for a signal."""

    kind: ClassVar[str] = "crashed"
    error: str
    exit_code: int | None
    evidence: Evidence = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The process was killed for the memory it took, by us at the task's ``limit``, or by the kernel, then it is None;
    ``limit`` and ``peak`` in bytes."""

    kind: ClassVar[str] = "out_of_memory"
    error: str
    limit: int | None
    peak: int | None
    evidence: Evidence = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The process was killed because nobody waits for the task's result any more, for the ``reason`` given: its run
    ended elsewhere, or its lease was lost."""

    kind: ClassVar[str] = "cancelled"
    error: str
    reason: str
    evidence: Evidence = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Released:
    """The task goes back to its queue without an attempt spent; ``counts`` when it had begun and its process was taken
    away: after three times it is given up."""

    reason: str
    counts: bool = False


Outcome = Completed | Failed | TimedOut | Crashed | OutOfMemory | Cancelled | Released
