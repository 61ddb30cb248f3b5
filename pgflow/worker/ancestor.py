"""The forkserver as the ancestor of everything that handlers start: no orphan leaves it while it lives."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import warnings
from multiprocessing import forkserver

from pgflow.process import subreaper, tree


def become() -> None:
    """Called in the forkserver when the flows have been imported, before it forks."""
    # Otherwise it is in the dispatcher's group, and a kill -9 of the group takes the one that finds the orphans.
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    subreaper.become()
    # Orphans are no children that multiprocessing knows. It reaps them, but warns of each; where a flow's module made
    # warnings errors that would end the forkserver.
    warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
    atexit.register(_end_what_is_left, os.getpid())


def end(timeout: float) -> None:
    """Called in the dispatcher when all pool processes have ended: let the forkserver end in order, with what the
    flows' modules have to do at exit; wait up to ``timeout`` seconds."""
    # No public way to end it; this one waits without a limit.
    stopping = threading.Thread(target=forkserver._forkserver._stop, daemon=True)  # type: ignore[attr-defined]
    stopping.start()
    stopping.join(timeout)


def _end_what_is_left(pid: int) -> None:
    """When the forkserver ends it may do so before the watcher has looked; then its orphans are lost."""
    if os.getpid() == pid:
        tree.strike(lambda: tree.descendants(pid))
