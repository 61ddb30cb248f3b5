"""Which process this is, and whether another one is still there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_ENDED = ("Z", "X")  # proc_pid_stat(5): a zombie's work is over, and nobody may ever wait for it


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, named so that no other one is taken for it.

    Processes of one ``scope`` (the boot of a machine and the pid namespace) see each other; an empty one says that
    nothing is known. ``started`` is in clock ticks since the boot. ``host`` is for people.
    """

    host: str
    scope: str
    pid: int
    started: int


def of_this_process() -> ProcessIdentity:
    """The identity of the process that calls."""
    pid = os.getpid()
    stat = _stat("self")
    # A /proc of another pid namespace, as `unshare --pid` leaves it, shows other processes under our numbers.
    if stat is None or stat.pid != pid or not (scope := _scope()):
        return ProcessIdentity(socket.gethostname(), "", pid, 0)
    return ProcessIdentity(socket.gethostname(), scope, pid, stat.started)


def is_gone(identity: ProcessIdentity) -> bool:
    """Whether the process has certainly ended. Of one that cannot be seen from here that is not certain."""
    scope = of_this_process().scope
    if not scope or identity.scope != scope:
        return False
    stat = _stat(str(identity.pid))
    if stat is None:
        return not _exists(identity.pid)
    return stat.started != identity.started or stat.state in _ENDED


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    state: str
    started: int


def _stat(process: str) -> _Stat | None:
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return None
    after_name = text.rpartition(")")[2].split()  # a process may have blanks and parentheses in its name
    return _Stat(pid=int(text.partition(" ")[0]), state=after_name[0], started=int(after_name[19]))


def _scope() -> str:
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_PID_NAMESPACE.stat().st_ino}"
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    """Also of processes that /proc hides from other users (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
