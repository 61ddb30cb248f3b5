"""Imported by the forkserver, so that a flow's heavy imports are paid once for all pool processes.

``multiprocessing.set_forkserver_preload`` with the flow's own module does not do: it ignores the parent's
``sys.path`` and swallows ImportError (tried on 3.11 and 3.13). So the forkserver preloads this module,
which is told what to load by an environment variable. Importing it without the variable does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from pgflow.process import marker

VARIABLE = "PGFLOW_PRELOAD"


def announce(references: Sequence[str], importing: Path) -> None:
    """Called in the dispatcher before the forkserver starts; ``importing`` is a file that holds the reference which is
    being imported."""
    order = {"sys_path": sys.path, "references": list(references), "importing": str(importing)}
    os.environ[VARIABLE] = json.dumps(order)
    # Before the mark: it is to outlive a killed worker and remove its semaphores.
    resource_tracker.ensure_running()
    marker.put()


def _note(importing: Path, reference: str) -> None:
    with contextlib.suppress(OSError):  # only a message would be the poorer
        importing.write_text(reference)


def _preload(order: str) -> None:
    wanted = json.loads(order)
    sys.path[:] = wanted["sys_path"]

    import pebble.pool.process  # noqa: F401 - else each pool process imports it by itself: 10 ms of CPU

    from pgflow.target import load
    from pgflow.worker import ancestor, child

    importing = Path(wanted["importing"])
    for reference in wanted["references"]:
        _note(importing, reference)
        # The first pool process imports the module again and reports the failure in full; here it would end
        # the forkserver.
        with contextlib.suppress(BaseException):
            if child.needs_database(load(reference)):
                import pgflow.database  # noqa: F401
        _note(importing, "")
    child.threads_lost = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    # The dispatcher decides when its processes end: a SIGTERM or SIGHUP to the whole group (systemd, a closing
    # terminal) must not take the forkserver, and with it every running task.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, child.keep_running)
    ancestor.become()


if _order := os.environ.pop(VARIABLE, None):
    _preload(_order)
