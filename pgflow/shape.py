"""How a database is told of a flow: as the contract's shape JSON, or as SQL statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pgflow import codec

if TYPE_CHECKING:
    from pgflow.flow import Flow, Step

_SHAPE_NAMES = {
    "max_attempts": "maxAttempts",
    "base_delay": "baseDelay",
    "timeout": "timeout",
    "start_delay": "startDelay",
}
_SQL_NAMES = {"if_": "required_input_pattern", "if_not": "forbidden_input_pattern"}


def shape_of(flow: Flow) -> dict[str, Any]:
    """The shape of section 5 of the contract; options only where they were given."""
    return {"steps": [_step_shape(step) for step in flow.steps], "options": _shape_options(flow.options)}


def recording_steps(shape: Mapping[str, Any]) -> list[str]:
    """The slugs of the steps in a shape that record failures."""
    return [step["slug"] for step in shape["steps"] if step["options"].get("recordFailures")]


def _step_shape(step: Step) -> dict[str, Any]:
    return {
        "slug": step.slug,
        "stepType": step.kind,
        "dependencies": list(step.depends_on),
        "whenUnmet": step.options.get("when_unmet", "skip"),
        "whenExhausted": _contract_options(step).get("when_exhausted", "fail"),
        "requiredInputPattern": _wrapped(step.options.get("if_")),
        "forbiddenInputPattern": _wrapped(step.options.get("if_not")),
        "options": _shape_options(step.options) | ({"recordFailures": True} if step.records_failures else {}),
    }


def _contract_options(step: Step) -> dict[str, Any]:
    """The contract does not know "record", to it such a step fails; nor what the worker alone heeds."""
    unknown = {"memory_limit", *(("when_exhausted",) if step.records_failures else ())}
    return {name: value for name, value in step.options.items() if name not in unknown}


def _wrapped(pattern: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"defined": False} if pattern is None else {"defined": True, "value": pattern}


def _shape_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {_SHAPE_NAMES[name]: value for name, value in options.items() if name in _SHAPE_NAMES}


def statements_of(flow: Flow) -> list[str]:
    """The statements of section 14 of the contract: create_flow, then one add_step for each step; then ours, where
    steps record failures."""
    return [
        _call("create_flow", [_text(flow.slug)], flow.options),
        *(_add_step(flow, step) for step in flow.steps),
        *(
            _call("record_failures", [_text(flow.slug), _text(step.slug)], {})
            for step in flow.steps
            if step.records_failures
        ),
    ]


def _add_step(flow: Flow, step: Step) -> str:
    arguments = [_text(flow.slug), _text(step.slug)]
    if step.depends_on:
        arguments.append(f"ARRAY[{', '.join(map(_text, step.depends_on))}]")
    kind = {"step_type": step.kind} if step.kind == "map" else {}
    return _call("add_step", arguments, {**_contract_options(step), **kind})


def _call(function: str, positional: Sequence[str], options: Mapping[str, Any]) -> str:
    named = [f"{_SQL_NAMES.get(name, name)} => {_literal(value)}" for name, value in options.items()]
    return f"SELECT pgflow.{function}({', '.join([*positional, *named])});"


def _literal(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return _text(value if isinstance(value, str) else codec.encode(value))


def _text(value: str) -> str:
    quoted = "'" + value.replace("'", "''") + "'"
    # With a backslash, only the E form means the same whatever standard_conforming_strings says.
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted
