"""The flow of the catalogue, and what its handlers have in common."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from pathlib import Path
from typing import Any

from pgflow import Flow

flow = Flow("catalogue", max_attempts=1, timeout=1)

MEBIBYTE = 1 << 20
kept: list[object] = []
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME = 1, 4, 15


def limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes of address space and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))


def eat_memory() -> None:
    """Take all memory there is, in pieces that get smaller, and keep it."""
    size = 16 * MEBIBYTE
    while size > 64:
        try:
            kept.append(bytearray(size))
        except MemoryError:
            size //= 2


def prctl(option: int, argument: object) -> None:
    ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def daemonize() -> None:
    """A grandchild in a session of its own, whose parent has ended."""
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)


class RootError(BaseException):
    """Not an Exception."""


def circle() -> list[Any]:
    """A list that holds itself."""
    ring: list[Any] = []
    ring.append(ring)
    return ring
