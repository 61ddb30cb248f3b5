"""The handlers of ``pgflow.bench.kill.hangs`` as Celery tasks, for the contender that is Celery.

A verdict is what the result backend has stored: after a task's own end ``task_postrun`` tells, in the pool process;
after a kill or a death the request does, in the worker's.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, Task, signals
from celery.worker.request import Request

from pgflow.bench.kill.contenders import note_end
from pgflow.bench.kill.hangs import HANDLERS


class NotingRequest(Request):  # type: ignore[misc]
    """A request that notes when its task has been killed or lost."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The task has exceeded its time limit."""
        super().on_timeout(soft, timeout)
        note_end(self.args[0])

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The task has failed, or its process has died."""
        result = super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        note_end(self.args[0])
        return result


class NotingTask(Task):  # type: ignore[misc]
    """A task with such requests."""

    Request = NotingRequest


def note_own_end(args: list[Any], **_others: Any) -> None:
    """The task has come to its own end; its result has been stored."""
    note_end(args[0])


_URL = f"redis+socket://{os.environ['BENCH_REDIS']}"

app = Celery("benchmarks", broker=_URL, backend=_URL)
app.conf.update(
    worker_prefetch_multiplier=1,
    result_expires=30,
    broker_connection_retry_on_startup=True,
)
signals.task_postrun.connect(note_own_end)

TASKS = {name: app.task(name=name, base=NotingTask)(handler) for name, handler in HANDLERS.items()}
