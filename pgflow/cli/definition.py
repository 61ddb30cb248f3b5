"""Defining a flow for commands that have no worker to do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgflow.database import Database
    from pgflow.database.flows import Compilation
    from pgflow.flow import Flow


def define(database: Database, flow: Flow, *, allow_data_loss: bool = False) -> Compilation:
    """Install the SQL core where it is missing, and define the flow or verify it.

    Raises FlowShapeMismatchError, which lists the differences, and DatabaseError.
    """
    from pgflow import codec
    from pgflow.database import schema
    from pgflow.database.flows import require_compiled

    with database.connection() as connection:
        schema.ensure(connection)
    return require_compiled(database, flow.slug, codec.encode(flow.shape()), allow_data_loss=allow_data_loss)
