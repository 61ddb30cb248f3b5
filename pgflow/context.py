"""Context: what a handler is given besides its input."""

from __future__ import annotations

from typing import Any, Protocol

from pgflow import codec
from pgflow.errors import FlowInputUnavailableError

_NOT_LOADED = object()


class FlowInputSource(Protocol):
    """The part of ``pgflow.database.Database`` that a context needs."""

    def flow_input(self, run_id: str) -> str | None:
        """The JSON text of the run's input; None if there is no such run."""


class Context:
    """Which task a handler is working on.

    ``database`` is the worker's ``pgflow.database.Database`` (None when executed without one), opened on
    first use in the process that runs the handler.
    """

    __slots__ = ("_flow_input", "attempt", "database", "run_id", "step_slug", "task_index")

    def __init__(
        self,
        *,
        run_id: str,
        step_slug: str,
        task_index: int,
        attempt: int,
        database: FlowInputSource | None,
        flow_input: Any = _NOT_LOADED,
    ) -> None:
        self.run_id = run_id
        self.step_slug = step_slug
        self.task_index = task_index
        """The element's position in a map step, from 0; 0 in a single step."""
        self.attempt = attempt
        """1 for the first attempt."""
        self.database = database
        self._flow_input = flow_input

    @property
    def flow_input(self) -> Any:
        """The run's input, decoded. Read from the database on first use (one query), then kept.

        Raises FlowInputUnavailableError when it is not loaded and there is no database, or no such run.
        """
        if self._flow_input is _NOT_LOADED:
            text = self.database.flow_input(self.run_id) if self.database is not None else None
            if text is None:
                raise FlowInputUnavailableError(run_id=self.run_id)
            self._flow_input = codec.decode(text)
        return self._flow_input
