"""What a pool process that died by itself leaves behind: its handlers' processes, now the forkserver's children.

The forkserver is the subreaper of all (``ancestor``). Among its children are also

* the other pool processes: those that the dispatcher knows, and those that it does not know yet, which are still in the
  forkserver's process group, or carry their own pid in their name;
* what the import of the flows started there, which is older than any pool process.
"""

from __future__ import annotations

import ctypes
import os
import sys

from pgflow.process import marker, proc, tree

_PR_SET_NAME = 15

pool_processes: set[int] = set()
"""The pids of those that the dispatcher knows."""


def name_pool_process() -> None:
    """Called in a pool process before it leaves the forkserver's group: what it forks has its name, but another pid."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, _name(os.getpid()).encode(), 0, 0, 0)


def kill(forkserver: int, born: int | None) -> None:
    """Kill what was left by a pool process that started at ``born`` (``proc.start``) and has ended."""
    if born is not None:
        tree.strike(
            lambda: [pid for orphan in _orphans(forkserver, born) for pid in (orphan, *tree.descendants(orphan))]
        )


def kill_strays() -> None:
    """Kill what was left by a forkserver that has ended: what carries this worker's mark and is not below this
    process, as another forkserver and its pool processes may be by now."""
    tree.strike(lambda: [pid for pid in marker.carriers(marker.identity) if _has_left(pid)])


def _orphans(forkserver: int, born: int) -> list[int]:
    return [pid for pid in proc.children(forkserver) if _is_orphan(pid, forkserver, born) and not marker.outlives(pid)]


def _is_orphan(pid: int, forkserver: int, born: int) -> bool:
    status = proc.status(pid)
    return (
        status is not None
        and not status.is_zombie
        and status.start > born
        and status.group != forkserver
        and status.name != _name(pid)
        and pid not in pool_processes
    )


def _has_left(pid: int) -> bool:
    """Whether no ancestor is this process; not if one ended just now, and nobody knows who comes next."""
    while pid > 1:
        status = proc.status(pid)
        if status is None or status.parent == os.getpid():
            return False
        pid = status.parent
    return True


def _name(pid: int) -> str:
    return f"pgflow {pid}"  # the kernel keeps 15 characters; a pid has at most 7 digits
