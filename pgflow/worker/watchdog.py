"""Watchdog: a part of the worker that does not get on any more is told of, mended or ended."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

from pgflow.worker.pulse import Pulse

logger = logging.getLogger(__name__)

EXIT_STUCK = 75
"""EX_TEMPFAIL of sysexits.h: a supervisor may start the worker again."""
LOOK_SECONDS = 2.0
LAST_WORDS_SECONDS = 5.0
"""How long the log may keep the end waiting."""
TELL_SECONDS = 60.0
"""A statement that takes this long is told of: it may wait for a lock, or complete a very large map."""
SEVER_SECONDS = 300.0
"""After this long the connections are cut, so that the part tries again with new ones."""
GIVE_UP_SECONDS = SEVER_SECONDS + 60.0


class Watchdog:
    """Ends the process, with the stacks of all threads in its log, if a thread died or hangs. What it held goes back to
    its queues as a dead worker's; its pool processes die with it.

    Thread: ``pgflow-watchdog`` runs ``_loop``. If it was itself kept from looking, all of the process was (stopped, a
    machine that slept), and nobody is to blame.
    """

    def __init__(self, pulses: Sequence[Pulse], sever: Callable[[], None]) -> None:
        self._pulses = list(pulses)
        self._sever = sever
        self._told: set[str] = set()
        self._severed: set[str] = set()
        self._excused = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pgflow-watchdog", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _loop(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(LOOK_SECONDS):
            now = time.monotonic()
            if now - looked > 2 * LOOK_SECONDS:
                self._excused = now
            looked = now
            for pulse in self._pulses:
                self._look(pulse, min(pulse.still_for(), now - self._excused))

    def _look(self, pulse: Pulse, still: float) -> None:
        if pulse.has_died:
            self._end(f"the thread of the {pulse.name} has died")
        elif pulse.given_up is not None:
            self._end(f"the {pulse.name} has given up: {pulse.given_up}")
        elif pulse.stuck_after is not None:
            if still > pulse.stuck_after:
                self._end(f"the {pulse.name} has not got on for {still:.0f} s")
        elif still > GIVE_UP_SECONDS:
            self._end(f"the {pulse.name} has waited for the database for {still:.0f} s, new connections did not help")
        elif still > SEVER_SECONDS:
            self._cut(pulse, still)
        elif still > TELL_SECONDS:
            self._tell(pulse, still)
        else:
            self._told.discard(pulse.name)
            self._severed.discard(pulse.name)

    def _tell(self, pulse: Pulse, still: float) -> None:
        if pulse.name not in self._told:
            self._told.add(pulse.name)
            logger.warning("the %s has waited for one statement for %.0f s", pulse.name, still)
            dump_stacks()

    def _cut(self, pulse: Pulse, still: float) -> None:
        if pulse.name not in self._severed:
            self._severed.add(pulse.name)
            logger.error("the %s has waited for one statement for %.0f s: connections are cut", pulse.name, still)
            self._sever()

    def _end(self, reason: str) -> None:
        # A part that hangs may hold the lock of the log.
        last = threading.Timer(LAST_WORDS_SECONDS, os._exit, (EXIT_STUCK,))
        last.daemon = True
        last.start()
        logger.critical("%s: the worker ends with exit code %d", reason, EXIT_STUCK)
        dump_stacks()
        os._exit(EXIT_STUCK)


def dump_stacks() -> None:
    """The stacks of all threads, on standard error."""
    sys.stderr.flush()
    faulthandler.dump_traceback(file=2, all_threads=True)
