"""Options: what a worker is started with, checked before anything is started."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgflow.errors import UsageError
from pgflow.process import memory
from pgflow.process.memory import Footprint
from pgflow.quantity import format_size
from pgflow.worker.flows import FlowDescription
from pgflow.worker.limits import Limits


@dataclass(frozen=True, slots=True)
class Options:
    """``flows`` are references, ``slots`` is the number of pool processes. Without ``preload`` each pool process
    imports the flows itself.

    ``memory``, ``address_space``, ``tasks_per_process`` and ``memory_per_process`` are as in Limits. Nothing is claimed
    while the machine has less than ``min_free_memory`` bytes. ``grace`` is how many seconds running tasks may go on
    once the worker is asked to stop; None for their deadlines alone.

    Raises UsageError for values out of range or in contradiction.
    """

    flows: tuple[str, ...]
    slots: int
    preload: bool = True
    allow_data_loss: bool = False
    memory: int | None = None
    address_space: int | None = None
    tasks_per_process: int | None = None
    memory_per_process: int | None = None
    min_free_memory: int | None = None
    grace: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("slots", self.slots), ("max_tasks_per_process", self.tasks_per_process)):
            if value is not None and value < 1:
                raise UsageError(message=f"{name} must be at least 1, got {value}")
        if self.grace is not None and not 0 <= self.grace < math.inf:
            raise UsageError(message=f"grace must be at least 0 seconds, got {self.grace:g}")
        there_is = memory.total()
        if self.min_free_memory is not None and there_is is not None and self.min_free_memory >= there_is:
            raise UsageError(
                message=f"min_free_memory ({format_size(self.min_free_memory)}) must be less than what this machine "
                f"has ({format_size(there_is)}): nothing would ever be claimed"
            )
        if self.memory is not None and self.address_space is not None and self.address_space < self.memory:
            raise UsageError(
                message=f"max_address_space ({format_size(self.address_space)}) must not be less than memory "
                f"({format_size(self.memory)}): what is resident has an address"
            )

    def to_order(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self)

    @staticmethod
    def from_order(order: Mapping[str, Any]) -> Options:
        """The options that ``to_order`` gave."""
        return Options(**{**order, "flows": tuple(order["flows"])})

    def limits(self, flows: Sequence[FlowDescription] = ()) -> Limits:
        """What tasks and processes may take, with what the flows declare."""
        return Limits(
            self.memory,
            self.address_space,
            self.tasks_per_process,
            self.memory_per_process,
            {(flow.slug, step): limit for flow in flows for step, limit in flow.memory_limits.items()},
        )

    def require_room(self, flows: Sequence[FlowDescription], idle: Footprint) -> None:
        """Refuse memory limits that a process without a task has passed already: UsageError."""
        limits = self.limits(flows)
        named = [
            ("memory", limits.memory, idle.resident, "has resident"),
            ("max_memory_per_process", limits.memory_per_process, idle.resident, "has resident"),
            ("max_address_space", limits.address_space, idle.addressed, "has addresses for"),
            *(
                (f"memory_limit of {flow}.{step}", limit, idle.resident, "has resident")
                for (flow, step), limit in limits.step_memory.items()
            ),
        ]
        for name, limit, taken, has in named:
            if limit is not None and limit <= taken:
                raise UsageError(
                    message=f"{name} ({format_size(limit)}) must be more than what a pool process {has} after "
                    f"importing the flows ({format_size(taken)})"
                )

    def warnings(self, flows: Sequence[FlowDescription]) -> list[str]:
        """What is allowed and may surprise, a line each."""
        return [*self._unenforced(flows), *self._short_grace(flows)]

    def _unenforced(self, flows: Sequence[FlowDescription]) -> list[str]:
        limits = self.limits(flows)
        wishes = (limits.memory, limits.memory_per_process, self.min_free_memory, *limits.step_memory.values())
        if not memory.IS_KNOWN and any(wish is not None for wish in wishes):
            return ["memory is neither watched nor limited on this platform, which has no /proc; see docs/limits.md"]
        return []

    def _short_grace(self, flows: Sequence[FlowDescription]) -> list[str]:
        if self.grace is None:
            return []
        return [
            f"the grace of {self.grace:g} s is under the timeout of {flow.slug}.{step}, {timeout} s: its tasks may be "
            "killed and handed back when the worker is asked to stop"
            for flow in flows
            for step, timeout in flow.timeouts.items()
            if timeout > self.grace
        ]
