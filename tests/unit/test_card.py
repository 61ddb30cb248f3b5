"""Death cards: a first line that stands on its own, bounded, and the same as values for the history."""

from __future__ import annotations

import signal
import sys

import pytest

from pgflow.process import card
from pgflow.process.stack import Frame
from pgflow.process.usage import Usage

RE = f"{sys.base_prefix}/lib/python3.11/re/__init__.py"
FRAMES = (Frame(RE, 166, "match"), Frame("/home/me/clean.py", 41, "clean"))


def test_a_card_says_cause_place_stack_and_facts() -> None:
    evidence = card.Evidence(
        frames=FRAMES,
        usage=Usage(cpu=29.61, peak_rss=812 << 20),
        elapsed=30.004,
        memory_limit=1 << 30,
        attempt=2,
        max_attempts=3,
        retry_delay=20,
    )
    assert card.timed_out(30, evidence).splitlines() == [
        "Task timed out after 30000ms; it was in match (re/__init__.py:166), called from clean.py:41",
        "Stack (most recent call last):",
        '  File "/home/me/clean.py", line 41, in clean',
        f'  File "{RE}", line 166, in match',
        "ran 30.00 s, used 29.61 s CPU, peak RSS 812 MiB of 1 GiB, attempt 2 of 3, next try in 20 s",
    ]
    assert evidence.values() == {
        "elapsed_seconds": 30.004,
        "cpu_seconds": 29.61,
        "peak_rss": 812 << 20,
        "memory_limit": 1 << 30,
        "stack": [
            'File "/home/me/clean.py", line 41, in clean',
            f'File "{RE}", line 166, in match',
        ],
    }


@pytest.mark.parametrize(
    ("exit_code", "words", "name"),
    [
        (0, "ended with exit code 0", None),
        (3, "ended with exit code 3", None),
        (-signal.SIGSEGV, "was killed by SIGSEGV", "SIGSEGV"),
        (-63, "was killed by signal 63", "signal 63"),
        (None, "ended without a trace", None),
    ],
)
def test_a_crash_names_its_exit_code_or_signal(exit_code: int | None, words: str, name: str | None) -> None:
    evidence = card.Evidence(exit_code=exit_code)
    assert card.crashed(evidence) == f"Task crashed: the process {words}"
    assert evidence.values().get("signal") == name
    assert evidence.values().get("exit_code") == exit_code


def test_out_of_memory_names_what_was_taken_and_the_limit() -> None:
    evidence = card.Evidence(usage=Usage(1.0, 900 << 20), memory_limit=512 << 20)
    first_line = card.out_of_memory(evidence).partition("\n")[0]
    assert first_line == "Task ran out of memory: it took 900 MiB, its limit is 512 MiB"


def test_the_kernels_oom_killer_is_named() -> None:
    evidence = card.Evidence(exit_code=-9, oom_killer=True)
    assert card.out_of_memory(evidence) == "Task ran out of memory: the kernel's OOM killer ended its process"
    assert evidence.values()["oom_killer"] is True


def test_the_last_attempt_is_said_to_be_the_last() -> None:
    evidence = card.Evidence(attempt=1, max_attempts=0)
    assert (
        card.cancelled("its run has ended", evidence) == "Task was killed: its run has ended\nattempt 1 of 1, the last"
    )


def test_a_card_is_bounded_and_keeps_its_facts() -> None:
    frames = [Frame("/x" * 1000, number, "f") for number in range(100)]
    text = card.timed_out(1, card.Evidence(frames=frames, attempt=1, max_attempts=1))
    assert len(text) <= card.MAX_CHARACTERS
    assert text.endswith("\nattempt 1 of 1, the last")
