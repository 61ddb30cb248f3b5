"""Launch: the first part of a dispatcher's start, for which it need not have imported what works on the database.

The forkserver imports the flows meanwhile: of a start of 0.9 s that saves 0.15.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator

from pgflow.errors import UndeliveredError
from pgflow.worker import ancestor
from pgflow.worker.options import Options
from pgflow.worker.pool import Pool
from pgflow.worker.stopping import PATIENCE_SECONDS
from pgflow.worker.watcher import Watcher

_FORKSERVER_SECONDS = 0.5
"""The forkserver gets this long to end in order."""


@contextlib.contextmanager
def started_pool(options: Options, conninfo: str) -> Iterator[Pool]:
    """A pool that is starting its processes, under a watcher, until the end of the block; ``conninfo`` is what handlers
    reach the database by. What leaves the block as an exception ends it."""
    _hide_main()
    with watched() as watcher:
        pool = Pool(
            options.flows,
            conninfo,
            options.slots,
            preload=options.preload,
            limits=options.limits(),
            on_look=watcher.keep,
        )
        pool.start()
        try:
            yield pool
        except UndeliveredError:  # it has ended, in order
            raise
        except BaseException:
            pool.stop("the worker did not start")
            end(pool)
            raise


@contextlib.contextmanager
def watched() -> Iterator[Watcher]:
    """A watcher; in the end it kills what is left, the forkserver included."""
    watcher = Watcher()
    watcher.start()
    try:
        yield watcher
    finally:
        ancestor.end(_FORKSERVER_SECONDS)
        watcher.end()


def end(pool: Pool) -> None:
    """Wait for the end of a pool that was stopped; one that takes too long is left to itself."""
    if not pool.wait_until_ended(PATIENCE_SECONDS):
        pool.abandon()


def _hide_main() -> None:
    """Keep pool processes from importing this process's main module again (the command line, the user's
    script): measured, 53-64 ms a start with it and 30-36 without."""
    sys.modules["__pgflow_main__"] = sys.modules["__main__"]  # a module without references is emptied
    sys.modules["__main__"] = types.ModuleType("__main__")
