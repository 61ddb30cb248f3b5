"""Tests that measure time run alone: no other test of the same xdist run is under way meanwhile."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """The turn of a test; with ``alone`` it begins when nobody else is at it, and keeps everybody out.

    Whoever wants a turn passes a turnstile, so that who waits to be alone is not kept waiting by those that come later.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    with _opened(f"pgflow-turnstile-{run}") as turnstile, _opened(f"pgflow-room-{run}") as room:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # also where a child has inherited the descriptor


@contextmanager
def _opened(name: str) -> Iterator[int]:
    descriptor = os.open(Path(tempfile.gettempdir()) / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
