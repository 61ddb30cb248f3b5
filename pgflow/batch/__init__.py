"""The batch job runner: a file of items, a function, all cores, and a run that survives what interrupts it.

``Batch`` is imported on first use, so that options are checked before everything is there that carries them out.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgflow.batch.options import BatchOptions

if TYPE_CHECKING:
    from pgflow.batch.batch import Batch

__all__ = ["Batch", "BatchOptions"]


def __getattr__(name: str) -> Any:
    if name == "Batch":
        return import_module("pgflow.batch.batch").Batch
    raise AttributeError(f"module 'pgflow.batch' has no attribute {name!r}")
