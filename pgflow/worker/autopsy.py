"""Autopsy: what is said of a task whose process did not deliver a verdict."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgflow.outcome import Cancelled, Crashed, OutOfMemory, TimedOut
from pgflow.process import card
from pgflow.process.stack import Frame
from pgflow.process.usage import Usage

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Autopsy:
    """What is known of the process and its task.

    ``frames`` is the handler's stack, innermost first; ``elapsed`` is in seconds; ``usage`` is the task's, as far as it
    was seen; ``memory_limit`` in bytes; ``was_stopped`` says that a signal had stopped the process.
    """

    task: ClaimedTask
    elapsed: float
    usage: Usage | None
    frames: Sequence[Frame]
    memory_limit: int | None
    was_stopped: bool

    def timed_out(self) -> TimedOut:
        """It was killed at its deadline."""
        timeout, evidence = float(self.task.timeout), self._evidence()
        return TimedOut(card.timed_out(timeout, evidence), timeout, evidence.values())

    def lost(self) -> Crashed:
        """It was killed because its handler had ended and nothing came."""
        evidence = self._evidence()
        return Crashed(card.lost(evidence), None, evidence.values())

    def out_of_memory(self) -> OutOfMemory:
        """It was killed at its memory limit."""
        evidence = self._evidence()
        return OutOfMemory(card.out_of_memory(evidence), self.memory_limit, self._peak(), evidence.values())

    def cancelled(self, reason: str) -> Cancelled:
        """It was killed because nobody waits for its result any more."""
        evidence = self._evidence()
        return Cancelled(card.cancelled(reason, evidence), reason, evidence.values())

    def ended(self, exit_code: int | None, *, oom_killer_struck: bool) -> Crashed | OutOfMemory:
        """It ended by itself; ``oom_killer_struck`` says whether the kernel killed somebody at about that time."""
        if exit_code == -signal.SIGKILL and oom_killer_struck:
            evidence = replace(self._evidence(exit_code), oom_killer=True)
            return OutOfMemory(card.out_of_memory(evidence), None, self._peak(), evidence.values())
        evidence = self._evidence(exit_code)
        return Crashed(card.crashed(evidence), exit_code, evidence.values())

    def _peak(self) -> int | None:
        return self.usage.peak_rss if self.usage is not None else None

    def _evidence(self, exit_code: int | None = None) -> card.Evidence:
        return card.Evidence(
            frames=self.frames,
            usage=self.usage,
            elapsed=self.elapsed,
            exit_code=exit_code,
            memory_limit=self.memory_limit,
            was_stopped=self.was_stopped,
            attempt=self.task.attempt,
            max_attempts=self.task.max_attempts,
            retry_delay=self.task.retry_delay,
        )
