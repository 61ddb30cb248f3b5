"""Being the parent of all orphans among one's descendants, so that they are found when the time comes to kill them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time

from pgflow.process import proc

_PR_SET_CHILD_SUBREAPER = 36
KEPT = 32
"""So many zombies are left alone: one that a handler has started itself, and will ask for its exit status, cannot be
told from an orphan's."""
LOOK_SECONDS = 1.0


def become() -> None:
    """From now on each descendant whose parent ends becomes this process's child (Linux). Forked children do not
    inherit this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Undertaker:
    """Keeps the zombies of a subreaper that lives long from becoming ever more.

    It asks for the exit status of those that were zombies already LOOK_SECONDS ago, the oldest first, as long as there
    are more than KEPT.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._next_look = 0.0

    def look(self) -> None:
        """To be called when no handler runs; costs 1 µs where there are no zombies."""
        if not _has_zombies() or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        zombies = _zombies()
        old = [pid for pid in self._known if zombies.get(pid) == self._known[pid]]
        for pid in old[: max(0, len(zombies) - KEPT)]:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
                del zombies[pid]
        self._known = {pid: zombies[pid] for pid in [*old, *zombies] if pid in zombies}


def _has_zombies() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # no children at all
        return False


def _zombies() -> dict[int, int]:
    seen = {pid: proc.status(pid) for pid in proc.children(os.getpid())}
    return {pid: status.start for pid, status in seen.items() if status is not None and status.is_zombie}
