"""Trouble: a database that is away is told of once, and tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pgflow.database.failures import in_short, is_data_error, is_forbidden

_SHORTEST_SECONDS = 0.2
_LONGEST_SECONDS = 5.0


class Trouble:
    """Any thread may use it. ``tell`` shows a line to whoever runs the batch."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._pauses: dict[str, float] = {}

    def wait(self, doing: str, error: Exception, stopping: threading.Event) -> None:
        """Wait before the next try; the first time since it went well the error is shown. Raises it if trying again is
        of no use."""
        if is_data_error(error) or is_forbidden(error):
            raise error
        with self._lock:
            pause = self._pauses.get(doing, 0.0)
            self._pauses[doing] = min(max(2 * pause, _SHORTEST_SECONDS), _LONGEST_SECONDS)
        if not pause:
            self._tell(f"{doing} failed, trying until the database is back: {in_short(error)}")
        stopping.wait(self._pauses[doing])

    @property
    def is_there(self) -> bool:
        """Whether something failed when it was last tried."""
        return bool(self._pauses)

    def is_over(self, doing: str) -> None:
        """It went well."""
        if doing in self._pauses:
            with self._lock:
                self._pauses.pop(doing, None)
