"""Where is measured: the database, which is left as it was."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click
import psycopg

from pgflow.bench.flows import reference
from pgflow.client import Client
from pgflow.database import Database, address, schema
from pgflow.database.choice import open_database
from pgflow.errors import DatabaseUrlError
from pgflow.flow import Flow
from pgflow.worker import Worker

LOCK_KEY = 0x7067626E  # "pgbn": one benchmark at a time in a database
LOOK_SECONDS = 0.01


@contextmanager
def opened_database(url: str | None, *, max_connections: int = 4) -> Iterator[Database]:
    """The database, with the schema in it. Raises click.UsageError for what is no address of one."""
    try:
        database = open_database(url, max_connections=max_connections)
    except DatabaseUrlError as error:
        raise click.UsageError(str(error)) from None
    with database:
        with database.connection() as connection:
            schema.ensure(connection)
            if schema.installed_version(connection) is None:
                raise click.ClickException(
                    f"{database.target} has the pgflow schema of another implementation, which is not measured here: "
                    "name another database with --database"
                )
        yield database


@contextmanager
def housekeeping(database: Database, slugs: Sequence[str]) -> Iterator[psycopg.Connection[Any]]:
    """A connection of our own, while no other benchmark runs in the database. The flows are deleted at the end, after
    an interrupt too; and before, if somebody was killed."""
    conninfo = address.complete(database.conninfo, "pgflow benchmark")
    # Nothing is prepared, as on the connections of workers.
    with _alone(conninfo, database), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
        delete_flows(connection, slugs)
        try:
            yield connection
        finally:
            click.echo("deleting what was made for measuring", err=True)
            delete_flows(connection, slugs)


@contextmanager
def _alone(conninfo: str, database: Database) -> Iterator[None]:
    """Hold a lock for as long as a transaction is open: one of a session would stay with a pooler's connection."""
    with psycopg.connect(conninfo, prepare_threshold=None) as connection:
        if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY]).fetchone() != (True,):
            raise click.ClickException(f"another benchmark runs in the database {database.target}")
        # In this order: a SELECT that was the last statement keeps its snapshot until the next one, and no dead row of
        # what is measured could be removed.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
        with suppress(psycopg.OperationalError):
            connection.rollback()


def delete_flows(connection: psycopg.Connection[Any], slugs: Sequence[str]) -> None:
    """Delete flows with their queues and the rows of their workers, as far as they are there."""
    connection.execute(
        "SELECT pgflow.delete_flow_and_data(f.flow_slug) FROM pgflow.flows AS f WHERE f.flow_slug = ANY(%s)",
        [list(slugs)],
    )
    connection.execute("DELETE FROM pgflow.workers WHERE queue_name = ANY(%s)", [list(slugs)])


def vacuum(connection: psycopg.Connection[Any], *, analyze: bool = False) -> None:
    """Remove dead rows from the tables of runs."""
    options = b"(ANALYZE)" if analyze else b""
    connection.execute(
        b"VACUUM " + options + b" pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgflow.task_attempts"
    )


@contextmanager
def serving(database: Database, flows: Sequence[Flow], slots: int) -> Iterator[Worker]:
    """A worker; an interrupt does not wait for what it runs."""
    worker = Worker(database, [reference(flow) for flow in flows], slots=slots)
    worker.start()
    try:
        yield worker
    except BaseException:
        worker.stop(timeout=0)
        raise
    worker.stop()


def wait_until_done(client: Client, worker: Worker, flow: Flow, last_run_id: str, look: float = LOOK_SECONDS) -> None:
    """Until no run of the flow goes on, looking every ``look`` seconds; ``Client.wait`` looks less and less often.

    To look at the run that was started last is cheap, to count all that go on is not.
    Raises click.ClickException if the worker ends before.
    """
    while client.status(last_run_id) == "started" or client.unfinished_runs(flow.slug):
        if not worker.is_running:
            raise click.ClickException("the worker has ended")
        time.sleep(look)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP are as Ctrl-C."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
