"""Lingering: what a handler started in its process and left running, threads and child processes."""

from __future__ import annotations

import contextlib
import os
import threading
from _thread import _count as count_threads
from pathlib import Path
from time import monotonic, sleep

from pgflow.process import stack, tree
from pgflow.worker.print_stream import printable

OUR_THREADS = "pgflow-"
"""Threads whose names begin so belong to us: the idle one for stack dumps, those of the database's connections."""
GRACE_SECONDS = 0.02
"""What has just been told to end gets this long; a new process takes longer."""
_LOOK_SECONDS = 0.001
_MAX_NAMES_CHARACTERS = 200


class Lingering:
    """Compares with the threads there are when it is made; there are no child processes then."""

    def __init__(self) -> None:
        running = threading.enumerate()
        self._threads = frozenset(running)
        self._is_quiet = [t.name for t in running[1:]] == [stack.THREAD]
        """There is but one thread beside the main one, that for stack dumps, which never ends: as long as there is one,
        it need not be asked who it is."""
        self._uncounted = count_threads() - len(running)
        """Threads that ``threading`` does not know, less the main thread. One that ``_thread`` has started is counted
        once it runs."""

    def in_words(self) -> str | None:
        """What still runs after ``GRACE_SECONDS``, if anything does."""
        if self._is_quiet and count_threads() == 1 and not _reap_and_look():
            return None
        deadline = monotonic() + GRACE_SECONDS
        while True:
            children, threads = _reap_and_look(), self._new_threads()
            if not children and not threads:
                return None
            if monotonic() > deadline:
                return (
                    f"subprocesses that still run: {_children()}" if children else f"threads that still run: {threads}"
                )
            sleep(_LOOK_SECONDS)

    def _new_threads(self) -> str:
        running = threading.enumerate()
        names = [t.name for t in running if t not in self._threads and not t.name.startswith(OUR_THREADS)]
        if not names and count_threads() - len(running) > self._uncounted:
            return "started by _thread"
        return _listed(names)


def _reap_and_look() -> bool:
    """Whether a child process is there, after those that have ended were waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> str:
    names = []
    for pid in tree.descendants(os.getpid()):
        with contextlib.suppress(OSError):
            names.append(Path(f"/proc/{pid}/comm").read_text(errors="replace").strip())
    return _listed(names)


def _listed(names: list[str]) -> str:
    return printable(", ".join(names).encode(errors="replace"))[:_MAX_NAMES_CHARACTERS]
