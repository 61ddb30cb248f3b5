"""A step stuck in C code next to one that works: watch the kill.

    pgflow run examples/hang.py:flow

``stuck`` matches a regular expression that backtracks for longer than anyone will live, in C code that lets no other
thread of its process run. ``busy`` works beside it in another process. What to expect:

* both start at once, and after a second ``busy`` is done, whatever its neighbour does;
* after two seconds, its timeout, the process of ``stuck`` is killed. There is no second attempt, so the run fails;
* the command prints the stack of where ``stuck`` was, and ends with 1.

With ``--slots 1`` there is no second process, and ``busy`` may have to wait until it is too late.
"""

from __future__ import annotations

import re
import time

from pgflow import Flow

CATASTROPHIC = re.compile(r"(a+)+$")
WORK_SECONDS = 1.0

flow = Flow("hang", max_attempts=1, timeout=30)


@flow.step(timeout=2)
def stuck(_input: object) -> bool:
    """Never comes back by itself: there are 2**63 ways to split the letters."""
    return CATASTROPHIC.match("a" * 64 + "!") is not None


@flow.step
def busy(_input: object) -> int:
    """How many primes there are below what can be tried in a second."""
    deadline = time.monotonic() + WORK_SECONDS
    primes: list[int] = []
    number = 2
    while time.monotonic() < deadline:
        if all(number % prime for prime in primes):
            primes.append(number)
        number += 1
    return len(primes)
