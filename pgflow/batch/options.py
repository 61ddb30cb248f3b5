"""What a batch is started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgflow.batch import naming
from pgflow.batch.halting import Halt
from pgflow.batch.items import ItemFormat, ItemReader
from pgflow.batch.timeouts import Timeout
from pgflow.errors import UsageError
from pgflow.reference import absolute
from pgflow.target import BatchTarget

Mode = Literal["new", "resume", "retry_failed", "overwrite"]
OnBadLine = Literal["fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """``target`` is the reference of a function that takes an item, or of a flow whose one step is a root map;
    ``source`` the file with the items, ``-`` for standard input. ``output`` is a file, None for standard output.

    ``mode``: ``new``, for a batch and files that do not exist; ``resume`` goes on with a batch, ``retry_failed`` runs
    its failed items again, ``overwrite`` deletes the batch and its files first. ``timeout``, ``memory`` (bytes an item
    may have resident) and ``retries`` are as the target's own step says where they are None, else 60 seconds, no limit
    and 0. ``keep_order`` writes the output in the order in which items were added. ``limit`` is a number of items of
    the input.

    Raises UsageError for options in contradiction.
    """

    target: str
    source: str = "-"
    output: str | None = None
    joblog: str | None = None
    name: str | None = None
    mode: Mode = "new"
    format: ItemFormat | None = None
    columns: tuple[str, ...] = ()
    on_bad_line: OnBadLine = "fail"
    limit: int | None = None
    shuffle: bool = False
    keep_order: bool = False
    errors_in_output: bool = False
    slots: int | None = None
    timeout: Timeout | None = None
    memory: int | None = None
    retries: int | None = None
    halt: Halt | None = None
    preload: bool = True

    def __post_init__(self) -> None:
        if self.retries is not None and self.retries < 0:
            raise UsageError(message=f"retries must be at least 0, got {self.retries}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(message=f"limit must be at least 1, got {self.limit}")
        if self.shuffle and self.keep_order:
            raise UsageError(message="shuffle and keep_order contradict each other: leave one of them out")

    def batch_name(self) -> str:
        """The name that was given, or one made from target, input and output."""
        return self.name or naming.default_name(self.target, self.source, self.output or naming.STANDARD)

    def batch_target(self, flow_slug: str) -> BatchTarget:
        """What workers must know of the batch."""
        return BatchTarget(
            flow_slug=flow_slug,
            target=absolute(self.target),
            max_attempts=None if self.retries is None else self.retries + 1,
            timeout=None if self.timeout is None else self.timeout.seconds,
            memory_limit=self.memory,
        )

    def reader(self) -> ItemReader:
        """The items of the input."""
        return ItemReader(
            self.source, format=self.format, on_bad_line=self.on_bad_line, columns=self.columns, limit=self.limit
        )
