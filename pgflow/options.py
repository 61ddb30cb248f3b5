"""The options of flows and steps, checked where they are declared."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from pgflow import codec
from pgflow.errors import FlowDefinitionError, OutputNotSerializableError
from pgflow.quantity import parse_size

Mode = Literal["fail", "skip", "skip-cascade"]
ExhaustedMode = Literal["fail", "skip", "skip-cascade", "record"]

MODES: tuple[Mode, ...] = ("fail", "skip", "skip-cascade")
EXHAUSTED_MODES: tuple[ExhaustedMode, ...] = (*MODES, "record")
MAX_NUMBER = 2**31 - 1  # the columns are of type int


class FlowOptions(TypedDict, total=False):
    """Options of flows, and of steps, which have precedence; None is as good as left out."""

    max_attempts: int | None
    """Total number of attempts of a task; 0 and 1 both mean no retry."""
    base_delay: int | None
    """Whole seconds before the second attempt's retry, doubled with each attempt."""
    timeout: int | None
    """Whole seconds a task may run, at least 1."""


class StepOptions(FlowOptions, total=False):
    """Options of steps; None is as good as left out."""

    start_delay: int | None
    """Whole seconds that the step's tasks wait before they may start."""
    if_: Mapping[str, Any] | None
    """The step runs only when its input contains this object."""
    if_not: Mapping[str, Any] | None
    """The step runs only when its input does not contain this object."""
    when_unmet: Mode | None
    """What becomes of the step when if_ or if_not says no: "skip" unless given."""
    when_exhausted: ExhaustedMode | None
    """What becomes of the step when a task has no attempt left: "fail" unless given; with "record" the task completes
    with ``{"$error": {"message", "kind", "attempts"}}`` as its output."""
    memory_limit: str | int | None
    """Resident memory that a task may take with everything it starts: bytes, or text such as "512MiB"; past it the task
    is killed and fails as out of memory. The worker's ``--memory`` unless given."""


Check = Callable[[str, Any], Any]


def whole_number(minimum: int, unit: str) -> Check:
    """A check for whole numbers from ``minimum`` to what a column holds; fractions and bools are refused."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FlowDefinitionError(message=f"{name} must be a whole number of {unit}, got {value!r}")
        if not minimum <= value <= MAX_NUMBER:
            raise FlowDefinitionError(message=f"{name} must be from {minimum} to {MAX_NUMBER:,} {unit}, got {value!r}")
        return int(value)

    return check


def pattern(name: str, value: Any) -> dict[str, Any]:
    """A check for JSON objects, the patterns of conditions; gives a copy as JSON has it."""
    if not isinstance(value, dict):
        raise FlowDefinitionError(message=f"{name} must be a dict, which is matched with the input, got {value!r}")
    try:
        text = codec.encode(value)
    except OutputNotSerializableError as error:
        raise FlowDefinitionError(
            message=f"{name} is not JSON: {error.values['reason']} at {error.values['path']}"
        ) from None
    copy: dict[str, Any] = codec.decode(text)
    return copy


def one_of(choices: tuple[str, ...]) -> Check:
    """A check for what becomes of a step."""

    def check(name: str, value: Any) -> str:
        for choice in choices:
            if value == choice:
                return choice
        raise FlowDefinitionError(message=f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

    return check


def size(name: str, value: Any) -> int:
    """A check for sizes; gives bytes."""
    try:
        return parse_size(value)
    except ValueError as error:
        raise FlowDefinitionError(message=f"{name} {error}") from None


FLOW_OPTIONS: Mapping[str, Check] = {
    "max_attempts": whole_number(0, "attempts"),
    "base_delay": whole_number(0, "seconds"),
    "timeout": whole_number(1, "seconds"),
}
STEP_OPTIONS: Mapping[str, Check] = {
    **FLOW_OPTIONS,
    "start_delay": whole_number(0, "seconds"),
    "if_": pattern,
    "if_not": pattern,
    "when_unmet": one_of(MODES),
    "when_exhausted": one_of(EXHAUSTED_MODES),
    "memory_limit": size,
}


def _hint(name: str, known: tuple[str, ...]) -> str:
    if name in STEP_OPTIONS:
        return "give it to a step"
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}"


def checked(
    owner: str, given: Mapping[str, Any], known: Mapping[str, Check], also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The options that were given and are not None, in the order of ``known``.

    ``owner`` says whose they are, ``also`` what else it takes. Raises FlowDefinitionError for an unknown
    option or a value that will not do.
    """
    for name in given:
        if name not in known:
            raise FlowDefinitionError(message=f"{owner} has no option {name!r}: {_hint(name, (*also, *known))}")
    return {
        name: check(f"{owner}: {name}", given[name]) for name, check in known.items() if given.get(name) is not None
    }
