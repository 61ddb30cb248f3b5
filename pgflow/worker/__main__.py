"""``python -m pgflow.worker``: the dispatcher process of ``Worker.start``.

The first line of standard input is the order, as JSON. The answer, one line on standard output, is
``{"ready": [flow slugs]}`` or the error that kept it from serving. Anything more on standard
input means: end at once. Its end means that the parent is gone: drain.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading

from pgflow.database import Database
from pgflow.errors import PgflowError
from pgflow.worker.lifecycle import Options, StopRequest, log_to_stderr, serve, stop_on_signals


def main() -> int:
    """Serve until told to stop; 0 after a clean end, 1 when it did not start."""
    log_to_stderr(logging.WARNING)
    order = json.loads(sys.stdin.readline())
    answers = _take_stdout()
    request = StopRequest()
    threading.Thread(target=_hear_parent, args=(request,), name="pgflow-parent", daemon=True).start()
    options = Options(
        flows=tuple(order["flows"]),
        slots=order["slots"],
        preload=order["preload"],
        allow_data_loss=order["allow_data_loss"],
    )
    try:
        with stop_on_signals(request), Database.from_order(order["database"]) as database:
            serve(database, options, lambda slugs: _answer(answers, {"ready": slugs}), request)
    except PgflowError as error:
        _answer(answers, {"error": type(error).__name__, "values": error.values})
        return 1
    return 0


def _take_stdout() -> int:
    """Standard output becomes standard error, so that nothing printed can be taken for the answer."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _answer(answers: int, answer: dict[str, object]) -> None:
    os.write(answers, json.dumps(answer, default=str).encode() + b"\n")
    os.close(answers)


def _hear_parent(request: StopRequest) -> None:
    while os.read(0, 4096):
        request.end_at_once()
    request.drain()


if __name__ == "__main__":
    sys.exit(main())
