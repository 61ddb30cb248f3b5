"""Limits: what a task and a pool process may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes; None for no limit.

    ``memory`` is what a task may have resident, with everything it starts; ``step_memory`` has it by flow and step slug
    for steps that declare their own. ``address_space`` is RLIMIT_AS of each pool process, past which the handler sees
    MemoryError. A process is replaced after ``tasks_per_process`` tasks, and after one that left it with more than
    ``memory_per_process`` resident.
    """

    memory: int | None = None
    address_space: int | None = None
    tasks_per_process: int | None = None
    memory_per_process: int | None = None
    step_memory: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def of_task(self, flow_slug: str, step_slug: str) -> int | None:
        """The memory that a task of that step may take."""
        return self.step_memory.get((flow_slug, step_slug), self.memory)
