"""Flows in the database: compiling a shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgflow.database import Database
from pgflow.errors import FlowShapeMismatchError


@dataclass(frozen=True, slots=True)
class Compilation:
    """What compiling did; ``differences`` in words, the code's side first."""

    status: Literal["compiled", "verified", "recompiled", "mismatch"]
    differences: tuple[str, ...]


def compile_flow(database: Database, flow_slug: str, shape_json: str, *, allow_data_loss: bool = False) -> Compilation:
    """Define the flow as its shape says, or verify that it is defined so.

    With ``allow_data_loss`` a flow that differs is deleted with its runs and defined anew; without, nothing
    is changed and the status is ``mismatch``.
    """
    row = database.fetch_one(
        "compile_flow", {"flow_slug": flow_slug, "shape": shape_json, "allow_data_loss": allow_data_loss}
    )
    assert row is not None
    return Compilation(row["status"], tuple(row["differences"]))


def require_compiled(
    database: Database, flow_slug: str, shape_json: str, *, allow_data_loss: bool = False
) -> Compilation:
    """As ``compile_flow``, but raises FlowShapeMismatchError, which lists the differences."""
    compilation = compile_flow(database, flow_slug, shape_json, allow_data_loss=allow_data_loss)
    if compilation.status == "mismatch":
        raise FlowShapeMismatchError(
            flow_slug=flow_slug, differences="\n".join(f"  {line}" for line in compilation.differences)
        )
    return compilation
