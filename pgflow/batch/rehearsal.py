"""A dry run: the input is read and checked, the target loaded, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgflow.batch import naming, trial
from pgflow.batch.files import paths, require_distinct, require_vacant
from pgflow.batch.options import BatchOptions
from pgflow.quantity import format_size


def rehearse(options: BatchOptions) -> Iterator[str]:
    """What would be done, a line each. Raises what a batch with these options would raise."""
    name = options.batch_name()
    batch = options.batch_target(naming.flow_slug(name))
    wanted = paths(options.output, options.joblog, errors_in_output=options.errors_in_output)
    require_distinct(wanted, options.source)
    if options.mode == "new":
        require_vacant(wanted)
    step = trial.load(batch)
    reader = options.reader()
    items = sum(1 for _ in reader)
    yield f"batch     {name}"
    yield f"target    {batch.target}"
    yield f"items     {items:,}" + (f", {reader.skipped:,} bad lines left out" if reader.skipped else "")
    yield f"each      {_limits(step)}"
    for kind, path in wanted.items():
        yield f"{kind:<9} {path}"


def _limits(step: dict[str, Any]) -> str:
    attempts = step["max_attempts"] or 1
    memory = f", {format_size(step['memory_limit'])} of memory" if "memory_limit" in step else ""
    return f"{step['timeout']} s at most{memory}, {attempts} attempt{'s' if attempts > 1 else ''}"
