"""Admission: nothing more is claimed while the machine is short of memory."""

from __future__ import annotations

import logging

from pgflow.process import memory
from pgflow.quantity import format_size

logger = logging.getLogger(__name__)


class Admission:
    """Whether the machine has ``min_free_memory`` bytes to give; None admits always, as does a machine that does not
    tell. For the dispatcher's thread."""

    def __init__(self, min_free_memory: int | None) -> None:
        self._needed = min_free_memory
        self._is_open = True

    def is_open(self) -> bool:
        """Whether more may be claimed; a change is logged (60 us where there is a limit)."""
        if self._needed is None:
            return True
        free = memory.available()
        is_open = free is None or free >= self._needed
        if is_open != self._is_open:
            self._is_open = is_open
            logger.warning(
                "claiming %s: %s of memory are free, min_free_memory is %s",
                "goes on" if is_open else "pauses",
                "?" if free is None else format_size(free),
                format_size(self._needed),
            )
        return is_open
