"""Pulse: when a part of the worker last got on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """Kept by a part's thread, felt by the watchdog's.

    A part that has not got on for ``stuck_after`` seconds is stuck for good; None is said of parts that wait for the
    database, which may take its time. A part that was never started has no pulse to be missed.
    """

    def __init__(self, name: str, *, stuck_after: float | None = None) -> None:
        self.name = name
        self.stuck_after = stuck_after
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self.given_up: str | None = None
        """Why it cannot do its work, for good."""

    @contextmanager
    def life(self) -> Iterator[None]:
        """The whole life of the thread: one that ends otherwise than through here has died."""
        self._thread = threading.current_thread()
        self.beat()
        yield
        self._thread = None

    def beat(self) -> None:
        """It got on."""
        self._since = time.monotonic()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """It waits for something to do, however long that takes."""
        self._since = None
        try:
            yield
        finally:
            self.beat()

    @property
    def has_died(self) -> bool:
        """Whether its thread has ended by an exception."""
        thread = self._thread
        return thread is not None and not thread.is_alive()

    def still_for(self) -> float:
        """For how many seconds it has not got on; 0 while it rests, or has ended."""
        since = self._since
        return time.monotonic() - since if since is not None and self._thread is not None else 0.0
