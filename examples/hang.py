"""A step stuck in C code, and another that goes on: watch the kill.

    pgflow run examples/hang.py:flow

``stuck`` matches a regular expression that backtracks for longer than anyone will live. After its timeout of two
seconds its process is killed, and the run fails with the stack of where it was. Meanwhile ``primes_below`` counts
primes, item by item, undisturbed in the other process.
"""

from __future__ import annotations

import re

from pgflow import Flow

CATASTROPHIC = re.compile(r"(a+)+$")

flow = Flow("hang", max_attempts=1, timeout=30)


@flow.step(timeout=2)
def stuck(_input: object) -> bool:
    """Never comes back by itself."""
    return CATASTROPHIC.match("a" * 64 + "!") is not None


@flow.step
def limits(_input: object) -> list[int]:
    """How far to count, item by item."""
    return [20_000 + 100 * number for number in range(400)]


@flow.map(over=limits)
def primes_below(limit: int) -> int:
    """How many primes there are below ``limit``, counted the slow way."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))
