"""The death card: what is known of a task whose process did not deliver a verdict, as text.

It becomes the task's ``error_message``: the first line is a sentence that stands on its own.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from pgflow.process.stack import Frame, describe
from pgflow.process.usage import Usage

MAX_FRAMES = 30
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about a dead or dying process.

    ``frames`` is the handler's stack, innermost first; ``elapsed`` is in seconds.
    """

    frames: Sequence[Frame] = ()
    usage: Usage | None = None
    elapsed: float | None = None
    attempt: str = ""


def timed_out(timeout: float, evidence: Evidence) -> str:
    """The card of a task that was killed at its deadline; ``timeout`` in seconds."""
    return _card(f"Task timed out after {milliseconds(timeout)}ms", evidence)


def crashed(exit_code: int | None, evidence: Evidence) -> str:
    """The card of a task whose process ended by itself; a negative code is the number of a signal."""
    return _card(f"Task crashed: the process {death_in_words(exit_code)}", evidence)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, as error messages give them."""
    return round(seconds * 1000)


def death_in_words(exit_code: int | None) -> str:
    """``was killed by SIGSEGV`` or ``ended with exit code 3``."""
    if exit_code is None:
        return "ended without a trace"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"


def _card(sentence: str, evidence: Evidence) -> str:
    lines = [f"{sentence}; it was in {describe(evidence.frames)}" if evidence.frames else sentence]
    if evidence.frames:
        lines.append("Stack (most recent call last):")
        lines += [str(frame) for frame in reversed(evidence.frames[:MAX_FRAMES])]
    facts = _facts(evidence)
    if facts:
        lines.append(", ".join(facts))
    return "\n".join(lines)


def _facts(evidence: Evidence) -> list[str]:
    facts = []
    if evidence.elapsed is not None:
        facts.append(f"ran {evidence.elapsed:.2f} s")
    if evidence.usage is not None:
        facts.append(f"used {evidence.usage.cpu:.2f} s CPU")
        facts.append(f"peak RSS {evidence.usage.peak_rss / MEBIBYTE:.0f} MiB")
    if evidence.attempt:
        facts.append(evidence.attempt)
    return facts
