"""Defining a flow for commands that have no worker to do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pgflow.database import Database
    from pgflow.database.flows import Compilation
    from pgflow.flow import Flow


def define(database: Database, flow: Flow, *, allow_data_loss: bool = False) -> Compilation:
    """Install the SQL core where it is missing, and define the flow or verify it; changed options are told on standard
    error.

    Raises FlowShapeMismatchError, which lists the differences, and DatabaseError.
    """
    from pgflow import codec
    from pgflow.database import schema
    from pgflow.database.flows import require_compiled

    with database.connection() as connection:
        schema.ensure(connection)
    compilation = require_compiled(database, flow.slug, codec.encode(flow.shape()), allow_data_loss=allow_data_loss)
    for change in compilation.changes:
        click.echo(f"{flow.slug}: changed in the database, as the code has it: {change}", err=True)
    return compilation
