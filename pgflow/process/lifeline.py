"""The watcher's program: when its standard input ends, everything that carries an identity is killed, and its files go.

It runs in a process of its own and outlives the dispatcher, which holds the other end of its standard input. It imports
nothing but the standard library and its neighbours, which do the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from pgflow.process import marker, tree

_PATIENCE_SECONDS = 5.0
"""A process that the kernel cannot end (it waits for a device, or gives back much memory) is waited for no longer."""
_LOOK_SECONDS = 0.01


def main(identity: str, temporary: str) -> None:
    """Wait for the end of standard input, then kill, and remove the folders in ``temporary`` that were the worker's."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    sweep(identity)
    for folder in Path(temporary).glob(f"{folder_prefix(identity)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def folder_prefix(identity: str) -> str:
    """How the name of a worker's temporary folder begins."""
    return f"pgflow-worker-{identity}-"


def sweep(identity: str) -> None:
    """Kill the carriers of an identity and all their descendants until there are none."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while tree.strike(lambda: _doomed(identity)) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)


def _doomed(identity: str) -> list[int]:
    carriers = marker.carriers(identity)
    below = [pid for carrier in carriers for pid in tree.descendants(carrier)]
    return list(dict.fromkeys([*carriers, *below]))
