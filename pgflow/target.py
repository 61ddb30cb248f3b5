"""What a worker serves: a flow by its reference, or a batch, whose flow is made around its target."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pgflow.errors import BatchTargetError, FlowDefinitionError
from pgflow.flow import Flow, Handler, Step
from pgflow.options import StepOptions
from pgflow.reference import load_flow, load_object

BATCH_PREFIX = "batch:"
ITEM_STEP = "item"
"""The one step of a batch's flow, a map over the items of a chunk."""
DEFAULT_TIMEOUT_SECONDS = 60
RETRY_DELAY_SECONDS = 1
"""Before the first retry of an item, doubled with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTarget:
    """What a worker must know to serve a batch. ``target`` is a function's or a flow's reference; what is None is as
    the target's own step says, else as is usual: one attempt, 60 seconds."""

    flow_slug: str
    target: str
    max_attempts: int | None = None
    timeout: int | None = None
    """Seconds."""
    memory_limit: int | None = None
    """Bytes."""

    def reference(self) -> str:
        """The text by which ``load`` finds the batch's flow."""
        return BATCH_PREFIX + json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    @staticmethod
    def of(reference: str) -> BatchTarget:
        """What ``reference`` made that text of."""
        return BatchTarget(**json.loads(reference.removeprefix(BATCH_PREFIX)))


def is_batch(reference: str) -> bool:
    """Whether it means a batch's flow."""
    return reference.startswith(BATCH_PREFIX)


def load(reference: str) -> Flow:
    """The flow that a worker's reference means: a flow's own, or that of a batch. Imports user code.

    Raises FlowNotFoundError, FlowImportError, and BatchTargetError for what cannot be a batch's target.
    """
    if is_batch(reference):
        return batch_flow(BatchTarget.of(reference))
    return load_flow(reference)


def batch_flow(batch: BatchTarget) -> Flow:
    """The flow of a batch: its target over the items of a chunk, whose failures are recorded. Raises as ``load``."""
    function, own = _function_of(batch.target)
    options: StepOptions = {
        "max_attempts": _first(batch.max_attempts, own.get("max_attempts"), 1),
        "base_delay": _first(own.get("base_delay"), RETRY_DELAY_SECONDS),
        "timeout": _first(batch.timeout, own.get("timeout"), DEFAULT_TIMEOUT_SECONDS),
        "memory_limit": _first(batch.memory_limit, own.get("memory_limit")),
        "start_delay": own.get("start_delay"),
        "when_exhausted": "record",
    }
    flow = Flow(batch.flow_slug)
    try:
        flow.map(slug=ITEM_STEP, **options)(function)
    except FlowDefinitionError as error:
        raise BatchTargetError(target=batch.target, reason=str(error)) from None
    return flow


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _function_of(target: str) -> tuple[Handler, dict[str, Any]]:
    """The function that takes an item, and the options that it brings."""
    found = load_object(target)
    if isinstance(found, Flow):
        step = _root_map(found, target)
        return step.handler, {**found.options, **step.options}
    if not callable(found):
        raise BatchTargetError(
            target=target, reason=f"it is of type {type(found).__name__}; name a function that takes an item, or a flow"
        )
    return found, {}


def _root_map(flow: Flow, target: str) -> Step:
    run_it = f"start it with `pgflow run {target} --input @FILE`"
    roots = [step for step in flow.steps if not step.depends_on]
    if len(roots) != 1 or roots[0].kind != "map":
        raise BatchTargetError(
            target=target, reason=f"a batch needs a flow whose one root step is a map over the items; {run_it}"
        )
    if dependents := [step.slug for step in flow.steps if step.depends_on]:
        raise BatchTargetError(
            target=target,
            reason=f"a batch runs its root map alone, and others depend on it ({', '.join(dependents)}); {run_it}",
        )
    if {"if_", "if_not"} & roots[0].options.keys():
        raise BatchTargetError(target=target, reason=f"its root map has conditions, which are for whole runs; {run_it}")
    return roots[0]
