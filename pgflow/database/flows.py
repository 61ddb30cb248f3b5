"""Flows in the database: compiling a shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg

from pgflow.database import Database, capabilities
from pgflow.database.failures import in_short
from pgflow.errors import FlowNotDefinedError, FlowShapeMismatchError

logger = logging.getLogger(__name__)

_DEFINING = {
    "_create_flow_from_shape": ("is not in the database", "FLOW"),
    "delete_flow_and_data": ("in the database differs from the code", "FLOW --allow-data-loss"),
}
"""What ensure_flow_compiled calls to define a flow: what that says of it, and what the owner has to compile."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """What compiling did; ``differences`` in words, the code's side first.

    ``changes`` are the options of the flow and its steps that were brought up to the code, in words.
    """

    status: Literal["compiled", "verified", "recompiled", "mismatch"]
    differences: tuple[str, ...]
    changes: tuple[str, ...] = ()


def compile_flow(database: Database, flow_slug: str, shape_json: str, *, allow_data_loss: bool = False) -> Compilation:
    """Define the flow as its shape says, or verify that it is defined so.

    With ``allow_data_loss`` a flow that differs is deleted with its runs and defined anew; without, nothing
    is changed and the status is ``mismatch``. The options of a flow that does not differ are brought up to the shape's;
    where the role may not, a warning names them. Tasks that run keep those with which they were claimed.

    Raises SchemaMissingError, SchemaTooNewError, UnknownContractError for a core that we would not understand, and
    FlowNotDefinedError where the role may not define what is missing.
    """
    with database.connection() as connection:
        capabilities.require_known(connection)
    flow = {"flow_slug": flow_slug, "shape": shape_json, "allow_data_loss": allow_data_loss}
    try:
        (row,) = database.fetch_all("compile_flow", flow)
    except psycopg.errors.InsufficientPrivilege as error:
        raise _undefined(flow_slug, error) or error from None
    is_verified = row["status"] == "verified"
    changes = _update_options(database, flow_slug, shape_json) if is_verified else ()
    return Compilation(row["status"], tuple(row["differences"]), changes)


def _undefined(flow_slug: str, error: psycopg.Error) -> FlowNotDefinedError | None:
    """What it means that the role may not, if that is the definition; else it has no right to look."""
    for function, (state, remedy) in _DEFINING.items():
        if function in str(error):
            return FlowNotDefinedError(flow_slug=flow_slug, state=state, remedy=remedy, reason=in_short(error))
    return None


def _update_options(database: Database, flow_slug: str, shape_json: str) -> tuple[str, ...]:
    flow = {"flow_slug": flow_slug, "shape": shape_json}
    try:
        return _updated(database, flow)
    except psycopg.errors.InsufficientPrivilege:
        differences = option_differences(database, flow_slug, shape_json)
    if differences:
        logger.warning(
            "%s: the options in the database differ from the code's and stay, for want of rights (%s): let the owner "
            "of the schema run `pgflow compile`",
            flow_slug,
            "; ".join(differences),
        )
    return ()


def _updated(database: Database, flow: Mapping[str, str]) -> tuple[str, ...]:
    try:
        (row,) = database.fetch_all("update_flow_options", flow)
        return tuple(row["changes"])
    except psycopg.errors.UndefinedFunction:  # a core with the contract's functions alone
        pass
    with database.transaction() as transaction:
        transaction.fetch_all("contract/lock_flow", flow)
        (row,) = transaction.fetch_all("contract/option_differences", flow)
        if row["differences"]:
            transaction.fetch_all("contract/update_flow_options", flow)
    return tuple(row["differences"])


def option_differences(database: Database, flow_slug: str, shape_json: str) -> tuple[str, ...]:
    """How the options of a flow and its steps in the database differ from the shape's, in words: present -> wanted."""
    flow = {"flow_slug": flow_slug, "shape": shape_json}
    try:
        (row,) = database.fetch_all("option_differences", flow)
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        # A core with the contract's functions alone, an older version of ours, or a role without that right.
        (row,) = database.fetch_all("contract/option_differences", flow)
    return tuple(row["differences"])


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
