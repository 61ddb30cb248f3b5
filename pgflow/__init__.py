"""pgflow: flows whose whole state lives in PostgreSQL, with a worker for CPU-heavy Python.

The names below are the public ones. Those that need a database are imported on first use, so that a flow's
module costs a pool process nothing but itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgflow import _version
from pgflow.context import Context
from pgflow.errors import PgflowError
from pgflow.flow import Flow, MapStep, Step
from pgflow.retry import Fail, Retry

__version__ = _version.VERSION

if TYPE_CHECKING:
    from pgflow.client import Client
    from pgflow.database import Database
    from pgflow.worker import Worker

__all__ = [
    "Client",
    "Context",
    "Database",
    "Fail",
    "Flow",
    "MapStep",
    "PgflowError",
    "Retry",
    "Step",
    "Worker",
    "__version__",
]

_ON_FIRST_USE = {"Client": "pgflow.client", "Database": "pgflow.database", "Worker": "pgflow.worker"}


def __getattr__(name: str) -> Any:
    if module := _ON_FIRST_USE.get(name):
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'pgflow' has no attribute {name!r}")
