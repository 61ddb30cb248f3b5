"""The environment variables that tell whose a process is, however far it has gone from its parents.

A program that is started with a cleared environment has none; it is found by its parents (``process.tree``).
"""

from __future__ import annotations

import os

from pgflow.process import proc

VARIABLE = "PGFLOW_POOL"
"""The identities of the worker and of those within whose handlers it was started, outermost first."""
OUTLIVES = "PGFLOW_OUTLIVES"
"""Whoever has this one is nobody's, and not killed."""

identity = os.urandom(16).hex()
"""This process's, if it is a dispatcher."""
_inherited = os.environ.get(VARIABLE, "")


def put() -> None:
    """Mark everything that this process starts from now on."""
    os.environ[VARIABLE] = f"{_inherited}/{identity}"


def unmarked() -> dict[str, str]:
    """The environment for a process that is this one's helper: it carries what this one carries."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return environment | ({VARIABLE: _inherited} if _inherited else {})


def outliving() -> dict[str, str]:
    """The environment for a process that others use as well: no kill reaches it, whoever started it."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return environment | {OUTLIVES: "1"}


def carriers(wanted: str) -> list[int]:
    """The processes that carry an identity."""
    return [pid for pid in proc.pids() if _carries(pid, wanted)]


def outlives(pid: int) -> bool:
    """Whether the process was started with ``outliving``."""
    return any(variable.startswith(f"{OUTLIVES}=".encode()) for variable in proc.variables(pid))


def _carries(pid: int, wanted: str) -> bool:
    marks = [variable for variable in proc.variables(pid) if variable.startswith(f"{VARIABLE}=".encode())]
    return any(wanted.encode() in mark for mark in marks) and not outlives(pid)
