"""Handlers that take other processes along."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.flows.catalogue.common import PR_SET_PDEATHSIG, flow, prctl


def _pool_processes() -> list[int]:
    parent = os.getppid()
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@flow.step
def kill_the_others(_input: Any) -> str:
    """SIGKILL to the parent's other children."""
    for pid in _pool_processes():
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return "alone"


@flow.step
def kill_the_forkserver(_input: Any) -> None:
    """Takes everybody's parent away."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


@flow.step
def outlive_the_forkserver(_input: Any) -> None:
    """As above, and does not die with it."""
    prctl(PR_SET_PDEATHSIG, 0)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


@flow.step
def return_ten_megabytes(_input: Any) -> str:
    """A large output."""
    return "x" * 10_000_000
