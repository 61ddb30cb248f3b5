"""The death card: what is known of a task whose process did not deliver a verdict, as text and as JSON values.

The text becomes the task's ``error_message``: its first line is a sentence that stands on its own. The values are for
the history of attempts.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgflow.process.stack import Frame, describe
from pgflow.process.usage import Usage
from pgflow.quantity import format_size

MAX_FRAMES = 30
MAX_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found out about a dead or dying process.

    ``frames`` is the handler's stack, innermost first; ``elapsed`` and ``retry_delay`` are in seconds, ``memory_limit``
    in bytes. ``max_attempts`` is None where there is no next attempt to speak of; ``retry_delay`` is None when this
    was the last. A negative ``exit_code`` is the number of a signal. ``was_stopped`` says that a signal had stopped the
    process when it was to end.
    """

    frames: Sequence[Frame] = ()
    usage: Usage | None = None
    elapsed: float | None = None
    exit_code: int | None = None
    oom_killer: bool = False
    was_stopped: bool = False
    memory_limit: int | None = None
    attempt: int = 1
    max_attempts: int | None = None
    retry_delay: int | None = None

    def values(self) -> dict[str, Any]:
        """The evidence as JSON values; what is not known is left out."""
        known = {
            "elapsed_seconds": None if self.elapsed is None else round(self.elapsed, 6),
            "cpu_seconds": None if self.usage is None else round(self.usage.cpu, 6),
            "peak_rss": None if self.usage is None else self.usage.peak_rss,
            "memory_limit": self.memory_limit,
            "exit_code": self.exit_code,
            "signal": None if self.exit_code is None or self.exit_code >= 0 else signal_name(-self.exit_code),
            "oom_killer": self.oom_killer or None,
            "stopped": self.was_stopped or None,
            "stack": [str(frame).strip() for frame in reversed(self.frames[:MAX_FRAMES])] or None,
        }
        return {name: value for name, value in known.items() if value is not None}


def timed_out(timeout: float, evidence: Evidence) -> str:
    """The card of a task that was killed at its deadline; ``timeout`` in seconds."""
    return _card(f"Task timed out after {milliseconds(timeout)}ms", evidence)


def crashed(evidence: Evidence) -> str:
    """The card of a task whose process ended by itself."""
    return _card(f"Task crashed: the process {death_in_words(evidence.exit_code)}", evidence)


def lost(evidence: Evidence) -> str:
    """The card of a task whose handler came to its end in time, and whose process did not deliver the result."""
    return _card("Task crashed: its handler ended, but the result did not come out of its process", evidence)


def out_of_memory(evidence: Evidence) -> str:
    """The card of a task that was killed for the memory it took: by us, or by the kernel."""
    if evidence.oom_killer:
        return _card("Task ran out of memory: the kernel's OOM killer ended its process", evidence)
    taken = "too much" if evidence.usage is None else format_size(evidence.usage.peak_rss)
    limit = "" if evidence.memory_limit is None else f", its limit is {format_size(evidence.memory_limit)}"
    return _card(f"Task ran out of memory: it took {taken}{limit}", evidence)


def cancelled(reason: str, evidence: Evidence) -> str:
    """The card of a task that was killed because nobody waits for it any more."""
    return _card(f"Task was killed: {reason}", evidence)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, as error messages give them."""
    return round(seconds * 1000)


def death_in_words(exit_code: int | None) -> str:
    """``was killed by SIGSEGV`` or ``ended with exit code 3``."""
    if exit_code is None:
        return "ended without a trace"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was killed by {signal_name(-exit_code)}"


def signal_name(number: int) -> str:
    """``SIGSEGV``, or ``signal 64`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _card(sentence: str, evidence: Evidence) -> str:
    lines = [f"{sentence}; it was in {describe(evidence.frames)}" if evidence.frames else sentence]
    if evidence.frames:
        lines.append("Stack (most recent call last):")
        lines += [str(frame) for frame in reversed(evidence.frames[:MAX_FRAMES])]
    facts = ", ".join(_facts(evidence))
    # The stack is cut where it is long, not the facts, which come last.
    text = "\n".join(lines)[: MAX_CHARACTERS - len(facts) - 1]
    return f"{text}\n{facts}" if facts else text


def _facts(evidence: Evidence) -> list[str]:
    facts = []
    if evidence.elapsed is not None:
        facts.append(f"ran {evidence.elapsed:.2f} s")
    if evidence.usage is not None:
        facts.append(f"used {evidence.usage.cpu:.2f} s CPU")
        limit = "" if evidence.memory_limit is None else f" of {format_size(evidence.memory_limit)}"
        facts.append(f"peak RSS {format_size(evidence.usage.peak_rss)}{limit}")
    if evidence.was_stopped:
        facts.append("was stopped by a signal")
    if evidence.max_attempts is not None:
        facts.append(f"attempt {evidence.attempt} of {max(1, evidence.max_attempts)}")
        facts.append("the last" if evidence.retry_delay is None else f"next try in {evidence.retry_delay} s")
    return facts
