"""``python -m pgflow.worker``: the dispatcher process of ``Worker.start``.

The first line of standard input is the order, as JSON. The answer, one line on standard output, is
``{"ready": [flow slugs]}`` or the error that kept it from serving. Where the order says that it waits, ``{"loaded":
true}`` comes before, and it serves when it is told ``GO``. Anything more on standard input means: end at once. Its end
means that the parent is gone: drain.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pgflow.errors import PgflowError
from pgflow.process import descriptors
from pgflow.worker import launch
from pgflow.worker.logs import log_to_stderr
from pgflow.worker.options import Options
from pgflow.worker.standby import GO
from pgflow.worker.stopping import StopRequest, StopRequested, stop_on_signals

if TYPE_CHECKING:
    from pgflow.worker.pool import Pool

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1


def main() -> int:
    """Serve until told to stop; 0 after a clean end, 1 when it did not start or could not deliver everything."""
    log_to_stderr(logging.WARNING)
    line = sys.stdin.readline()
    if not line:  # who started it went before it knew what to ask for
        return 0
    order = json.loads(line)
    answer = _Answer()
    request = StopRequest()
    parent = _Parent(request)
    options = Options.from_order(order["options"])
    descriptors.allow(options.files)
    try:
        with stop_on_signals(request), launch.started_pool(options, order["conninfo"]) as pool:
            _serve(pool, order, options, answer, parent)
    except PgflowError as error:
        return answer.fail(error)
    return 0


def _serve(pool: Pool, order: dict[str, Any], options: Options, answer: _Answer, parent: _Parent) -> None:
    # Only now: the forkserver imports the flows meanwhile.
    import psycopg

    from pgflow.database import Database
    from pgflow.database.failures import in_words
    from pgflow.worker.lifecycle import serve_with

    def before_serving() -> None:
        if order["waits"]:
            answer.say({"loaded": True})
            parent.await_go()

    try:
        with Database.from_order(order["database"]) as database:
            serve_with(
                *(pool, database, options, lambda slugs: answer.give({"ready": slugs}), parent.request),
                before_serving=before_serving,
            )
    except psycopg.Error as error:
        raise in_words(error) from error


class _Answer:
    """What is said on standard output. Everything else that is printed there goes to standard error instead, so
    that nothing can be taken for the answer."""

    def __init__(self) -> None:
        self._descriptor: int | None = os.dup(1)
        os.dup2(2, 1)

    def say(self, answer: dict[str, object]) -> None:
        """Say something that is not the last word."""
        assert self._descriptor is not None
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, as the end of standard input tells
            os.write(self._descriptor, json.dumps(answer, default=str).encode() + b"\n")

    def give(self, answer: dict[str, object]) -> None:
        """Give it."""
        self.say(answer)
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None

    def fail(self, error: PgflowError) -> int:
        """Answer with the error, or log it if the answer was given; the exit code."""
        if self._descriptor is None:
            logger.error("%s", error)
        else:
            self.give({"error": type(error).__name__, "values": error.values})
        return 1


class _Parent:
    """What the parent says after its order. Thread: ``pgflow-parent`` runs ``_hear``."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request
        self._go = threading.Event()
        threading.Thread(target=self._hear, name="pgflow-parent", daemon=True).start()

    def await_go(self) -> None:
        """Wait for GO. Raises StopRequested."""
        while not self._go.wait(_LOOK_SECONDS):
            if self.request.came:
                raise StopRequested

    def _hear(self) -> None:
        while words := os.read(0, 4096):
            if GO in words:
                self._go.set()
            if words.strip(GO):
                self.request.end_at_once()
        self.request.drain_unattended()


if __name__ == "__main__":
    sys.exit(main())
