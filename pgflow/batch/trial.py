"""A trial: whether a batch's target can be loaded, found out in a process of its own."""

from __future__ import annotations

import json
import os
from typing import Any

from pgflow import errors
from pgflow.errors import FlowImportError, PgflowError
from pgflow.process import forked
from pgflow.target import BatchTarget, batch_flow

IMPORT_SECONDS = 60.0


def load(batch: BatchTarget) -> dict[str, Any]:
    """The options of the batch's step, as another process tells them: this one imports no user code.

    Raises FlowNotFoundError, FlowImportError and BatchTargetError.
    """
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
