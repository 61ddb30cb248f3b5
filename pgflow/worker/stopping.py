"""How a worker is asked to stop, and how long it may take."""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable

from pgflow.process import signals

PATIENCE_SECONDS = 3.0
"""After the second request the database gets this long to take over what is handed back."""
UNATTENDED_SECONDS = 60.0
"""A worker without a parent, whom nobody will ask a second time, tries to deliver this long."""
_LOOK_SECONDS = 0.1


class StopRequested(Exception):  # noqa: N818 - no error
    """The worker was asked to stop before it had started."""


class StopRequest:
    """How often this process was asked to stop: once, and it drains; twice, and it ends at once.

    A pipe and a list, because signal handlers ask: a lock may be held by the very code they interrupt, and
    ``+= 1`` may be interrupted by another handler that does the same (seen: two signals counted as one).
    """

    def __init__(self) -> None:
        self._requests: list[float] = []
        self._is_draining = False
        self._is_unattended = False
        self._reader, self.wakeup_fd = os.pipe()
        """A byte written to ``wakeup_fd`` ends ``wait`` for a look."""
        os.set_blocking(self.wakeup_fd, False)

    def ask(self) -> None:
        """One more request; for signal handlers."""
        self._requests.append(time.monotonic())
        self._wake()

    def end_at_once(self) -> None:
        """Two requests in one; callable from any thread. Two signals in quick succession may arrive as one."""
        self.ask()
        self.ask()

    def drain(self) -> None:
        """A request that does not count: one after it is the first; callable from any thread."""
        self._is_draining = True
        self._wake()

    def drain_unattended(self) -> None:
        """Drain, with nobody left who could ask again."""
        self._is_unattended = True
        self.drain()

    def only_delivery_is_left(self) -> None:
        """Tasks have their deadlines; a database that is away has none. If nobody can ask a second time, that
        happens by itself after ``UNATTENDED_SECONDS``."""
        if self._is_unattended:
            timer = threading.Timer(UNATTENDED_SECONDS, self.end_at_once)
            timer.daemon = True
            timer.start()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: there is enough to be read
            os.write(self.wakeup_fd, b"!")

    def wait(self) -> None:
        """Wait for the first request."""
        while not self.came:
            select.select([self._reader], [], [])
            os.read(self._reader, 4096)

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return self._is_draining or bool(self._requests)

    def wait_unless_urgent(self, has_ended: Callable[[float], bool], until: float = math.inf) -> bool:
        """Wait until ``has_ended``, which waits up to so many seconds, says yes; False at a second request, and after
        ``until``, a ``time.monotonic()``."""
        while not has_ended(min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))):
            if len(self._requests) > 1 or time.monotonic() >= until:
                return False
        return True

    def wait_patiently(self, has_ended: Callable[[float], bool]) -> bool:
        """The same, but False only ``PATIENCE_SECONDS`` after a second request."""
        while not has_ended(_LOOK_SECONDS):
            if len(self._requests) > 1 and time.monotonic() > self._requests[1] + PATIENCE_SECONDS:
                return False
        return True


def stop_on_signals(request: StopRequest) -> contextlib.AbstractContextManager[None]:
    """SIGTERM, SIGHUP and SIGINT ask to stop, but those that were ignored before. For the main thread."""
    return signals.noted(lambda _number: request.ask(), request.wakeup_fd)
