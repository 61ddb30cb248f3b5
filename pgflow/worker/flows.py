"""A worker's flows, as a pool process described them; the dispatcher imports no flow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgflow import errors
from pgflow.shape import recording_steps


@dataclass(frozen=True, slots=True)
class FlowDescription:
    """A flow as a pool process described it; the dispatcher imports no flow."""

    slug: str
    shape_json: str
    recording_steps: tuple[str, ...]
    """The steps that record failures."""
    timeouts: Mapping[str, int]
    """The declared timeouts of steps, in seconds."""
    memory_limits: Mapping[str, int]
    """The declared memory limits of steps, in bytes."""


@dataclass(frozen=True, slots=True)
class FlowDescriptions:
    """The flows of a worker, and the names of the threads that importing them started."""

    flows: list[FlowDescription]
    threads: list[str]


def read_description(text: str) -> FlowDescriptions:
    """What ``child.describe_flows`` answered; raises the error if it is one."""
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        raise getattr(errors, answer["error"])(**answer["values"])
    flows = [
        FlowDescription(
            flow["slug"],
            json.dumps(flow["shape"]),
            tuple(recording_steps(flow["shape"])),
            flow["timeouts"],
            flow["memory_limits"],
        )
        for flow in answer["flows"]
    ]
    return FlowDescriptions(flows, answer["threads"])
