"""``pgflow prune``: deleting what ended long ago."""

from __future__ import annotations

import dataclasses
import json

import click

from pgflow.cli.options import Duration, database_option, json_option


@click.command()
@click.option(
    "--older-than",
    type=Duration(),
    required=True,
    metavar="DURATION",
    help="How long ago it ended: 30d, 12h; 0 for all that has ended.",
)
@database_option
@json_option
def prune(older_than: float, database: str | None, as_json: bool) -> None:
    """Delete runs that ended long ago with all that belongs to them, archived messages, and workers without a sign of
    life.

    In short transactions, so that workers go on meanwhile; interrupted, it has done what it came to.
    """
    from pgflow.database import retention
    from pgflow.database.choice import open_database

    with open_database(database) as opened:
        pruned = retention.prune(opened, older_than)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(pruned)))
    else:
        click.echo(
            f"deleted: {pruned.runs:,} runs, {pruned.messages:,} archived messages, {pruned.workers:,} workers, "
            f"{pruned.batches:,} batches"
        )
