"""Killing a process with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill(pid: int) -> None:
    """SIGKILL to a process, to its process group if it leads one, and to the descendants that left it.

    Where there is no /proc only the process group is reached.
    A process that has ended already is no error.
    """
    strays = descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    for victim in (pid, *strays):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(victim, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The living descendants of a process; those whose parent ended belong to init and are not found."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (thread / "children").read_text().split()]
    return children
