"""``pgflow schema``: the SQL core."""

from __future__ import annotations

import sys

import click

from pgflow.cli.failures import RUN_FAILED
from pgflow.cli.options import database_option


@click.group()
def schema() -> None:
    """Install, verify or print the SQL core, grant its use."""


@schema.command()
@database_option
def install(database: str | None) -> None:
    """Install the SQL core and pgmq where they are missing, or upgrade the core; repeatable."""
    from pgflow.database import schema as core
    from pgflow.database.choice import open_database

    with open_database(database) as opened, opened.connection() as connection:
        report = core.install(connection)
    match report.outcome:
        case "installed":
            click.echo(f"installed version {report.version}; pgmq: {_PGMQ[report.pgmq]}")
        case "upgraded":
            click.echo(f"upgraded to version {report.version}")
        case "present":
            click.echo(f"version {report.version} is installed already")
        case "foreign":
            click.echo("another implementation's pgflow schema is there; nothing was changed")


_PGMQ = {"extension": "created the extension", "sql": "installed its SQL", "present": "it was there"}


@schema.command()
@database_option
def verify(database: str | None) -> None:
    """Compare the functions in the database with this version's; exit code 1 if they differ."""
    from pgflow.database import schema as core
    from pgflow.database.choice import open_database

    with open_database(database) as opened, opened.connection() as connection:
        verification = core.verify(connection)
    if verification.version is None:
        click.echo("another implementation's pgflow schema")
        return
    for problem in verification.problems:
        click.echo(problem)
    if verification.problems:
        sys.exit(RUN_FAILED)
    click.echo(f"version {verification.version}: everything is as it should be")


@schema.command()
@click.option("--worker", "workers", metavar="ROLE", multiple=True, help="May serve flows, and read; repeatable.")
@click.option("--client", "clients", metavar="ROLE", multiple=True, help="May start runs, and read; repeatable.")
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements instead; no database is needed.")
@database_option
def grants(workers: tuple[str, ...], clients: tuple[str, ...], as_sql: bool, database: str | None) -> None:
    """Grant existing roles what workers or clients need, and no more; for the schema's owner.

    Repeat it after an upgrade.
    """
    from pgflow.database import grants
    from pgflow.database.choice import open_database

    if not all((*workers, *clients)) or not (workers or clients):
        raise click.UsageError("name a role with --worker ROLE or --client ROLE")
    if as_sql:
        for statement in grants.statements(workers=workers, clients=clients):
            click.echo(statement.as_string(None), nl=False)
        return
    with open_database(database) as opened, opened.connection() as connection:
        grants.grant(connection, workers=workers, clients=clients)
    for role in workers:
        click.echo(f"{role} may serve flows")
    for role in clients:
        click.echo(f"{role} may start runs")


@schema.command()
def sql() -> None:
    """Print everything that install would run, pgmq's SQL included."""
    from pgflow.database import schema as core

    click.echo(core.sql(), nl=False)
