"""Well-behaved flows."""

from __future__ import annotations

from typing import Any

from pgflow import Context, Flow

flow = Flow("arithmetic", max_attempts=2, base_delay=0, timeout=10)


@flow.step
def numbers(input: dict[str, int]) -> list[int]:
    """0 .. count-1."""
    return list(range(input["count"]))


@flow.map(over=numbers)
def square(number: int, ctx: Context) -> int:
    """Its element squared; the element named ``fails_once`` in the run's input fails in its first attempt."""
    if ctx.attempt == 1 and number == ctx.flow_input.get("fails_once"):
        raise RuntimeError("not yet")
    return number * number


@flow.step(depends_on=[square])
async def total(deps: dict[str, Any]) -> dict[str, int]:
    """The sum, with its dependencies' outputs counted."""
    return {"total": sum(deps["square"]), "of": len(deps["square"])}


falsy = Flow("falsy", max_attempts=1, timeout=10)


@falsy.map
def same(value: Any) -> Any:
    """Gives its element back."""
    return value
