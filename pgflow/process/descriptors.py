"""How many files this process, and those that it starts, may have open."""

from __future__ import annotations

import resource
import sys


def allowable() -> int:
    """How many ``allow`` could allow: the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def allow(count: int) -> None:
    """Allow that many, where fewer are allowed: raise the soft limit. Raises ValueError above the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
