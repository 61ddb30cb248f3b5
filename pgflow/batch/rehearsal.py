"""A dry run: the input is read and checked, the target loaded, and nothing is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from pgflow import errors
from pgflow.batch import naming
from pgflow.batch.files import paths, require_distinct, require_vacant
from pgflow.batch.options import BatchOptions
from pgflow.errors import FlowImportError, PgflowError
from pgflow.process import forked
from pgflow.quantity import format_size
from pgflow.target import BatchTarget, batch_flow

IMPORT_SECONDS = 60.0


def rehearse(options: BatchOptions) -> Iterator[str]:
    """What would be done, a line each. Raises what a batch with these options would raise."""
    name = options.batch_name()
    batch = options.batch_target(naming.flow_slug(name))
    wanted = paths(options.output, options.joblog, errors_in_output=options.errors_in_output)
    require_distinct(wanted, options.source)
    if options.mode == "new":
        require_vacant(wanted)
    step = _described(batch)
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


def _described(batch: BatchTarget) -> dict[str, Any]:
    """The options of the batch's step, as a process of its own tells them: this one imports no user code."""
    end = forked.run(lambda: _describe(batch), IMPORT_SECONDS)
    if end.answer is None:
        reason = "it takes more than a minute" if end.timed_out else f"it ended the process, exit code {end.exit_code}"
        raise FlowImportError(reference=batch.target, reason=reason)
    answer: dict[str, Any] = json.loads(end.answer)
    if "error" in answer:
        raise getattr(errors, answer["error"])(**answer["values"])
    return answer


def _describe(batch: BatchTarget) -> bytes:
    os.dup2(2, 1)  # whatever the import prints is no answer of ours
    try:
        (step,) = batch_flow(batch).steps
    except PgflowError as error:
        return json.dumps({"error": type(error).__name__, "values": error.values}, default=str).encode()
    return json.dumps(dict(step.options)).encode()
