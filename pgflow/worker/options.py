"""Options: what a worker is started with, checked before anything is started."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgflow.errors import UsageError
from pgflow.process import descriptors, memory
from pgflow.process.memory import Footprint
from pgflow.quantity import format_size
from pgflow.worker.flows import FlowDescription
from pgflow.worker.limits import Limits

MAX_SLOTS = 10_000
_FILES_OF_SLOT = 13
"""Counted: the dispatcher's pipes to a pool process, its queues' semaphores, its logbook, its tickets, its output."""
_OTHER_FILES = 64


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
        _require_count("slots", self.slots)
        if self.slots > MAX_SLOTS:
            raise UsageError(message=f"slots must be at most {MAX_SLOTS:,}, got {self.slots:,}: start more workers")
        if self.tasks_per_process is not None:
            _require_count("max_tasks_per_process", self.tasks_per_process)
        if self.grace is not None and not 0 <= self.grace < math.inf:
            raise UsageError(message=f"grace must be at least 0 seconds, got {self.grace:g}")
        there_is = memory.total()
        if self.min_free_memory is not None and there_is is not None and self.min_free_memory >= there_is:
            raise UsageError(
                message=f"min_free_memory ({format_size(self.min_free_memory)}) must be less than what this machine "
                f"has ({format_size(there_is)}): nothing would ever be claimed"
            )
        if self.memory is not None:
            self._require_addresses("memory", self.memory)
        if self.files > descriptors.allowable():
            raise UsageError(
                message=f"slots ({self.slots:,}) need {self.files:,} open files, {_FILES_OF_SLOT} each and "
                f"{_OTHER_FILES} for the rest, and this process may have {descriptors.allowable():,}: "
                "take fewer slots, or raise the hard limit (ulimit -Hn)"
            )

    @property
    def files(self) -> int:
        """How many files a dispatcher with so many slots may have open at a time."""
        return _FILES_OF_SLOT * self.slots + _OTHER_FILES

    def _require_addresses(self, name: str, resident: int) -> None:
        if self.address_space is not None and self.address_space < resident:
            raise UsageError(
                message=f"max_address_space ({format_size(self.address_space)}) must not be less than {name} "
                f"({format_size(resident)}): what is resident has an address"
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
        """Refuse memory limits that a process without a task has passed already, and those of steps for which there are
        not enough addresses: UsageError."""
        limits = self.limits(flows)
        of_steps = _step_limits(limits)
        for name, wanted in of_steps.items():
            self._require_addresses(name, wanted)
        named = [
            ("memory", limits.memory, idle.resident, "has resident"),
            ("max_memory_per_process", limits.memory_per_process, idle.resident, "has resident"),
            ("max_address_space", limits.address_space, idle.addressed, "has addresses for"),
            *((name, limit, idle.resident, "has resident") for name, limit in of_steps.items()),
        ]
        for name, limit, taken, has in named:
            if limit is not None and limit <= taken:
                raise UsageError(
                    message=f"{name} ({format_size(limit)}) must be more than what a pool process {has} after "
                    f"importing the flows ({format_size(taken)})"
                )

    def warnings(self, flows: Sequence[FlowDescription]) -> list[str]:
        """What is allowed and may surprise, a line each."""
        return [
            *self._unenforced(flows),
            *self._more_than_there_is(flows),
            *self._never_replaced(flows),
            *self._short_grace(flows),
        ]

    def _unenforced(self, flows: Sequence[FlowDescription]) -> list[str]:
        limits = self.limits(flows)
        wishes = (limits.memory, limits.memory_per_process, self.min_free_memory, *limits.step_memory.values())
        if not memory.IS_KNOWN and any(wish is not None for wish in wishes):
            return ["memory is neither watched nor limited on this platform, which has no /proc; see docs/limits.md"]
        return []

    def _more_than_there_is(self, flows: Sequence[FlowDescription]) -> Iterator[str]:
        there_is = memory.total()
        for name, limit in [("memory", self.memory), *_step_limits(self.limits(flows)).items()]:
            if limit is not None and there_is is not None and limit > there_is:
                yield (
                    f"{name} ({format_size(limit)}) is more than this machine has ({format_size(there_is)}): "
                    "it runs out of memory before a task is killed for it"
                )

    def _never_replaced(self, flows: Sequence[FlowDescription]) -> Iterator[str]:
        limits: dict[str, int | None] = {**_step_limits(self.limits(flows))}
        if len(limits) < sum(len(flow.timeouts) for flow in flows):
            limits["memory"] = self.memory  # of the steps that have none of their own
        known = {name: limit for name, limit in limits.items() if limit is not None}
        if self.memory_per_process is None or not known or len(known) < len(limits):
            return
        name, highest = max(known.items(), key=lambda item: item[1])
        if self.memory_per_process >= highest:
            yield (
                f"max_memory_per_process ({format_size(self.memory_per_process)}) is not below {name} "
                f"({format_size(highest)}): a task is killed before it leaves a process with so much, so that none is "
                "replaced for it"
            )

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


def _require_count(name: str, value: Any) -> None:
    """What comes from a program has any type."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(message=f"{name} must be a whole number of at least 1, got {value!r}")
    if value < 1:
        raise UsageError(message=f"{name} must be at least 1, got {value}")


def _step_limits(limits: Limits) -> dict[str, int]:
    return {f"memory_limit of {flow}.{step}": limit for (flow, step), limit in limits.step_memory.items()}
