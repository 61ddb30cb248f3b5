"""The database in which is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import psycopg

from pgflow import Database
from pgflow.database import schema
from pgflow.database.choice import open_database
from pgflow.errors import DatabaseUrlError


@contextmanager
def opened_database(url: str | None, *, max_connections: int = 1) -> Iterator[Database]:
    """The database, with the schema in it. Raises click.UsageError for what is no address of one."""
    try:
        database = open_database(url, max_connections=max_connections)
    except DatabaseUrlError as error:
        raise click.UsageError(str(error)) from None
    with database:
        with database.connection() as connection:
            schema.ensure(connection)
            if schema.installed_version(connection) is None:
                raise click.ClickException("this database has the pgflow schema of another implementation")
        yield database


def delete_flows(connection: psycopg.Connection[Any], slugs: list[str]) -> None:
    """Delete flows with their queues and the rows of their workers, as far as they are there."""
    connection.execute(
        "SELECT pgflow.delete_flow_and_data(f.flow_slug) FROM pgflow.flows AS f WHERE f.flow_slug = ANY(%s)", [slugs]
    )
    connection.execute("DELETE FROM pgflow.workers WHERE queue_name = ANY(%s)", [slugs])
