"""Worker: a dispatcher process that runs flows' tasks in a pool of processes.

``Worker`` is imported on first use: who only wants a dispatcher to begin its imports does not wait for its own.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgflow.worker.worker import Worker

__all__ = ["Worker", "available_cores"]


def __getattr__(name: str) -> Any:
    if name == "Worker":
        return import_module("pgflow.worker.worker").Worker
    raise AttributeError(f"module 'pgflow.worker' has no attribute {name!r}")


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
