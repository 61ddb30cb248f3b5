"""``pgflow compile``: defining a flow."""

from __future__ import annotations

import click

from pgflow.cli.options import allow_data_loss_option, database_option, load_quietly


@click.command()
@click.argument("flow")
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL instead; no database is needed.")
@database_option
@allow_data_loss_option
def compile(flow: str, as_sql: bool, database: str | None, allow_data_loss: bool) -> None:
    """Define FLOW in the database, or verify that it is defined as in the code."""
    loaded = load_quietly(flow)
    if as_sql:
        click.echo(loaded.sql(), nl=False)
        return

    from pgflow.cli.definition import define
    from pgflow.database.choice import open_database

    with open_database(database) as opened:
        compilation = define(opened, loaded, allow_data_loss=allow_data_loss)
    click.echo(f"{loaded.slug}: {compilation.status}")
