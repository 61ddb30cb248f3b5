"""SlotListener: who is told what becomes of a slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pgflow.worker.running import End

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask
    from pgflow.worker.slot import Slot


class SlotListener(Protocol):
    """Who is told what becomes of a slot, from the slot's, pebble's or the watch thread."""

    def tasks_ended(self, ends: Sequence[End], seconds: float) -> None:
        """Exactly once for every task given to ``Slot.run``, unless it is returned; these took so many seconds."""

    def tasks_returned(self, tasks: Sequence[ClaimedTask], since: float, condemned: Mapping[int, str]) -> None:
        """Tasks that were not begun; as they were given to ``Slot.run``, and those of them that are condemned."""

    def slot_idle(self, slot: Slot) -> None:
        """The slot can take a task; not from here, as it holds its lock."""

    def slot_offered(self) -> None:
        """A slot that became idle can be given a task from here."""

    def slot_lost(self, slot: Slot) -> None:
        """The slot cannot take a task until it is idle again."""

    def left_untidy(self, task: ClaimedTask, left: str) -> None:
        """The task's process is replaced, because of what its handler left in it."""

    def slot_failed(self, slot: Slot, failures: int, error: Exception) -> None:
        """The slot's process did not start, ``failures`` times in a row; the slot goes on trying."""
