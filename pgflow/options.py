"""The options of flows and steps, checked where they are declared."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from pgflow import codec
from pgflow.errors import FlowDefinitionError, OutputNotSerializableError

MODES = ("fail", "skip", "skip-cascade")


def whole_number(minimum: int, unit: str) -> Callable[[str, Any], int]:
    """A check for whole numbers of at least ``minimum``; fractions and bools are refused."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FlowDefinitionError(message=f"{name} must be a whole number of {unit}, got {value!r}")
        if value < minimum:
            raise FlowDefinitionError(message=f"{name} must be at least {minimum} ({unit}), got {value!r}")
        return value

    return check


def pattern(name: str, value: Any) -> dict[str, Any]:
    """A check for JSON objects, the patterns of conditions."""
    if not isinstance(value, dict):
        raise FlowDefinitionError(message=f"{name} must be a dict that the input is matched with, got {value!r}")
    try:
        codec.encode(value)
    except OutputNotSerializableError as error:
        raise FlowDefinitionError(message=f"{name} is no JSON: {error}") from None
    return value


def mode(name: str, value: Any) -> str:
    """A check for what to do with a step."""
    if value not in MODES:
        choices = ", ".join(repr(choice) for choice in MODES)
        raise FlowDefinitionError(message=f"{name} must be one of {choices}, got {value!r}")
    return str(value)


FLOW_OPTIONS: Mapping[str, Callable[[str, Any], Any]] = {
    "max_attempts": whole_number(0, "attempts"),
    "base_delay": whole_number(0, "seconds"),
    "timeout": whole_number(1, "seconds"),
}
STEP_OPTIONS: Mapping[str, Callable[[str, Any], Any]] = {
    **FLOW_OPTIONS,
    "start_delay": whole_number(0, "seconds"),
    "if_": pattern,
    "if_not": pattern,
    "when_unmet": mode,
    "when_exhausted": mode,
}


def checked(
    owner: str, given: Mapping[str, Any], known: Mapping[str, Callable[[str, Any], Any]], also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The options that were given and are not None; ``owner`` says whose they are, ``also`` what else it takes.

    Raises FlowDefinitionError for an unknown option or a value that will not do.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, (*known, *also), n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join((*also, *known))}"
            raise FlowDefinitionError(message=f"{owner} has no option {name!r}: {hint}")
    return {name: known[name](f"{owner}: {name}", value) for name, value in given.items() if value is not None}
