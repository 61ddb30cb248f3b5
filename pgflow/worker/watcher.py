"""Watcher: a small process that outlives the dispatcher, however it ends, and kills what it left."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pgflow
from pgflow.process import marker

logger = logging.getLogger(__name__)

# pgflow's own __init__ imports everything: 0.2 s. In its place stands a package that only knows its folder.
_BOOT = (
    "import sys, types; package = types.ModuleType('pgflow'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['pgflow'] = package; from pgflow.process import lifeline; lifeline.main(*sys.argv[2:])"
)
_RENEWAL_SECONDS = 1.0
"""A watcher that ends at once is not started again sooner."""
_END_SECONDS = 5.0


class Watcher:
    """Holds the lifeline: the write end of the watcher's standard input, which no other process has, since it is closed
    on exec and the dispatcher does not fork without.

    Threads: ``start`` and ``end`` are for the main thread; ``keep`` is called by the pool's watch thread, which lives
    between.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> None:
        """Start it; to be done before there is anything to kill. Raises OSError if it cannot be started."""
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _BOOT, str(Path(pgflow.__file__).parent)),
                *(marker.identity, tempfile.gettempdir()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=marker.unmarked(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """The pid of the process, while it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def keep(self) -> None:
        """Start another if it has ended: to be called often; costs a system call."""
        if self.pid is not None or time.monotonic() < self._started + _RENEWAL_SECONDS:
            return
        self._close()
        logger.warning("the watcher process ended; starting another")
        try:
            self.start()
        except OSError as error:
            logger.error("the watcher process cannot be started: %s", error)

    def end(self) -> None:
        """Let it kill what is left, which takes some 0.01 s, and end."""
        self._close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
