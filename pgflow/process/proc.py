"""What /proc tells of processes: nothing where there is no /proc (macOS) or the process has ended."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """A process at the moment of looking. ``start`` is in clock ticks since boot: with the pid, it tells a process from
    a later one of the same pid."""

    name: str
    state: str
    parent: int
    group: int
    start: int

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self.state == "T"

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended, and nobody has asked for its exit status yet."""
        return self.state in "ZX"


def status(pid: int) -> Status | None:
    """The process's status; None if there is none."""
    before, _, after = _read(pid, "stat").decode(errors="replace").rpartition(")")
    if not after:
        return None
    fields = after.split()  # a name may have blanks and parentheses
    return Status(before.partition("(")[2], fields[0], int(fields[1]), int(fields[2]), int(fields[19]))


def start(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is none."""
    seen = status(pid)
    return seen.start if seen is not None else None


def children(pid: int) -> list[int]:
    """The process's children, zombies included. While some of them end the kernel may leave out others: look again."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += [int(child) for child in _read(pid, f"task/{thread}/children").split()]
    return found


def variables(pid: int) -> list[bytes]:
    """``NAME=value``, as the process was exec'd with; what it has set since is not seen. Empty for a zombie and for
    another user's process."""
    return _read(pid, "environ").split(b"\0")


def pids() -> list[int]:
    """All processes."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return []


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""
