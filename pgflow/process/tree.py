"""Killing a process with everything it started.

Nothing is started while the kill goes on: each process is stopped before its children are looked for, and the looking
is repeated until nobody new is found. A process that was just forking when it was stopped may still bring one child to
the world; the next look finds it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable

from pgflow.process import marker, proc

_PATIENCE_SECONDS = 0.5
"""Who starts processes faster than they are stopped is killed as far as he is known then."""


def kill(pid: int) -> None:
    """SIGKILL to a process, to its process group if it leads one, and to all its descendants.

    Those whose parent has ended are descendants if the process is their subreaper. Where there is no /proc only the
    process group is reached. A process that has ended already is no error.
    """
    group = _group_led_by(pid)
    _signal_group(group, signal.SIGSTOP)
    strike(lambda: [pid, *descendants(pid)])
    _signal_group(group, signal.SIGKILL)


def strike(find: Callable[[], Iterable[int]]) -> int:
    """SIGKILL to all processes that ``find`` names, parents before children, after they have been stopped and it
    names no others; how many there were."""
    stopped: dict[int, int | None] = {}
    until = time.monotonic() + _PATIENCE_SECONDS
    while (fresh := [pid for pid in find() if pid not in stopped]) and time.monotonic() < until:
        for pid in fresh:
            stopped[pid] = proc.start(pid)
            send(pid, stopped[pid], signal.SIGSTOP)
    # Children first: the kernel sends SIGCONT to stopped ones whose process group loses its last parent.
    for pid in reversed(stopped):
        send(pid, stopped[pid], signal.SIGKILL)
    return len(stopped)


def send(pid: int, start: int | None, number: int) -> None:
    """A signal to the process that started then (``proc.start``), and to no later one of its pid."""
    if proc.start(pid) == start:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """The descendants of a process, parents before children. Those that outlive everybody are left out, with theirs."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = [child for child in proc.children(pending.pop()) if not marker.outlives(child)]
        found += children
        pending += children
    return found


def _group_led_by(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return pid if os.getpgid(pid) == pid else None
    return None


def _signal_group(group: int | None, number: int) -> None:
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
