"""``pgflow start``: starting a run for workers elsewhere."""

from __future__ import annotations

import click

from pgflow.cli.options import allow_data_loss_option, database_option, input_option, load_quietly, read_input


@click.command()
@click.argument("flow")
@input_option
@database_option
@allow_data_loss_option
@click.option("--key", help="Start it once: starting with the same key again prints the same run's id.")
def start(flow: str, input_source: str, database: str | None, allow_data_loss: bool, key: str | None) -> None:
    """Start a run of FLOW, which is compiled if it is missing, and print the run's id."""
    from pgflow.cli.definition import define
    from pgflow.client import Client
    from pgflow.database.choice import open_database

    value = read_input(input_source)
    loaded = load_quietly(flow)
    with open_database(database) as opened:
        define(opened, loaded, allow_data_loss=allow_data_loss)
        click.echo(Client(opened).start(loaded.slug, value, key=key))
