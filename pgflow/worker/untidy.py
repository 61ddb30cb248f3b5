"""Untidy: the log's word on handlers after which their process is replaced, once a step and reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask

logger = logging.getLogger(__name__)

_REMEDIES = {
    "threads that still run": "join them, or shut their executor down, before the handler returns",
    "subprocesses that still run": "wait for them, or end them, before the handler returns",
    "a file descriptor closed or replaced": "put it back with os.dup2 before the handler returns",
}
_ELSE = "put it back before the handler returns, or do it in a subprocess"


class Untidy:
    """Which steps were complained of already. Any thread may report."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, str]] = set()

    def report(self, task: ClaimedTask, left: str) -> None:
        """The task left its process so that it is replaced; ``left`` as ``Baseline.restore`` says it."""
        reason = left.partition(":")[0]
        key = (task.flow_slug, task.step_slug, reason)
        if key in self._known:
            return
        self._known.add(key)
        logger.warning(
            "%s/%s left %s. Its process is replaced each time, which keeps a slot from its next task for as long as a "
            "process takes to start; to avoid that, %s",
            task.flow_slug,
            task.step_slug,
            left,
            _REMEDIES.get(reason, _ELSE),
        )
