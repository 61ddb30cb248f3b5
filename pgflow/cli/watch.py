"""Watching a run until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console

from pgflow.cli.interrupts import Interrupts
from pgflow.cli.lines import RelayedLines
from pgflow.cli.progress import Display, display_on
from pgflow.client import Client, Run
from pgflow.errors import DatabaseUnreachableError, WorkerStartError

if TYPE_CHECKING:
    from pgflow.worker import Worker

SHORTEST_LOOK_SECONDS = 0.05
LONGEST_LOOK_SECONDS = 0.5


def watch(client: Client, worker: Worker, run_id: str, lines: RelayedLines, interrupts: Interrupts) -> Run | None:
    """Show the run's progress until it has ended; the run then, or None at an interrupt.

    Raises WorkerStartError when the worker ends before the run does.
    """

    def require_worker() -> None:
        if not worker.is_running:
            raise WorkerStartError(
                message=f"The worker ended before run {run_id} did; its log says why. Go on with --continue {run_id}"
            )

    display = display_on(Console(stderr=True))
    before = lines.show
    lines.show = display.print
    with display:
        try:
            return _until_ended(_Look(client, run_id, display), interrupts, require_worker)
        finally:
            lines.show = before


def follow(client: Client, run_id: str, interrupts: Interrupts) -> Run | None:
    """As ``watch``, of a run that is done elsewhere."""
    display = display_on(Console(stderr=True))
    with display:
        return _until_ended(_Look(client, run_id, display), interrupts, lambda: None)


def _until_ended(look: _Look, interrupts: Interrupts, check: Callable[[], None]) -> Run | None:
    interval = SHORTEST_LOOK_SECONDS
    while (run := look.ended()) is None:
        check()
        if interrupts.wait(interval):
            break
        interval = min(interval * 1.3, LONGEST_LOOK_SECONDS)
    return run


class _Look:
    """Looks at the run and shows what it sees; the worker waits for a database that is away, and so do we."""

    def __init__(self, client: Client, run_id: str, display: Display) -> None:
        self._client = client
        self._run_id = run_id
        self._display = display
        self._is_away = False

    def ended(self) -> Run | None:
        """The run, if it has ended."""
        try:
            # In this order: what is shown of a run that has ended is its end.
            has_ended = self._client.status(self._run_id) != "started"
            self._display.show(self._client.progress(self._run_id))
            run = self._client.get(self._run_id) if has_ended else None
        except DatabaseUnreachableError as error:
            if not self._is_away:
                self._display.print(f"{error}; trying until it is back")
            self._is_away = True
            return None
        self._is_away = False
        return run
