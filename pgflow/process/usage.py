"""CPU time and memory of a process."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it started: ``cpu`` in seconds, ``peak_rss`` in bytes."""

    cpu: float
    peak_rss: int


def of_children(rusage: resource.struct_rusage) -> Usage:
    """The usage of an ended child, as ``os.wait4`` gives it."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
    return Usage(cpu=rusage.ru_utime + rusage.ru_stime, peak_rss=rusage.ru_maxrss * unit)


def of_process(pid: int) -> Usage | None:
    """The usage of any living process, from /proc; None where there is none (macOS) or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    after_name = stat.rpartition(")")[2].split()  # a process may have blanks and parentheses in its name
    user_ticks, system_ticks = int(after_name[11]), int(after_name[12])
    peak_kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return Usage(cpu=(user_ticks + system_ticks) / _TICKS_PER_SECOND, peak_rss=peak_kib * 1024)
