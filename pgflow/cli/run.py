"""``pgflow run``: one run from start to output, with a worker of its own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from pgflow.cli.ending import report
from pgflow.cli.failures import INTERRUPTED
from pgflow.cli.interrupts import Interrupts
from pgflow.cli.options import (
    allow_data_loss_option,
    database_option,
    input_option,
    limit_options,
    no_preload_option,
    read_input,
    slots_option,
)
from pgflow.cli.program import program
from pgflow.errors import DatabaseError, UsageError

if TYPE_CHECKING:
    from pgflow.client import Client, Run
    from pgflow.worker import Worker


@click.command()
@click.argument("flow")
@input_option
@database_option
@slots_option
@limit_options
@allow_data_loss_option
@no_preload_option
@click.option("--continue", "run_id", metavar="RUN_ID", help="Go on with a run that was interrupted.")
def run(
    flow: str,
    input_source: str,
    database: str | None,
    slots: int | None,
    allow_data_loss: bool,
    no_preload: bool,
    run_id: str | None,
    **limits: int | None,
) -> None:
    """Start a run of FLOW and a worker, show how far it is, and print its output as one line of JSON.

    Installs the SQL core and compiles the flow if need be. An interrupted run keeps its state: the command
    that continues it is printed.
    """
    from pgflow.cli.lines import RelayedLines
    from pgflow.cli.watch import watch
    from pgflow.client import Client
    from pgflow.database.choice import open_database
    from pgflow.worker import Worker

    value = read_input(input_source)
    with open_database(database) as opened, RelayedLines() as lines:
        client = Client(opened)
        continued = client.get(run_id) if run_id is not None else None
        worker = Worker(
            opened,
            [flow],
            slots=slots,
            preload=not no_preload,
            allow_data_loss=allow_data_loss,
            **limits,
            stderr=lines.writer,
        )
        with Interrupts(worker.end_at_once) as interrupts, _started(worker, interrupts):
            lines.close_writer()
            slug = worker.flow_slugs[0]
            # An interrupted run's tasks are still there, and come before a new one's.
            others = client.unfinished_runs(slug) - (continued is not None)
            current = _continue(worker, continued) if continued else client.start(slug, value)
            click.echo(f"run {current}{' goes on' if continued else ''}", err=True)
            if others > 0:
                click.echo(f"other unfinished runs of {slug}, whose tasks share its queue: {others}", err=True)
            ended = watch(client, worker, current, lines, interrupts)
            if ended is None:
                click.echo("Interrupted: finishing what runs. Ctrl-C again ends it at once.", err=True)
                worker.stop()
                ended = _ended_meanwhile(client, current)
        if ended is None:
            _say_how_to_continue(flow, current, slots=slots, no_preload=no_preload, database=database)
            sys.exit(INTERRUPTED)
        report(client, ended)


@contextmanager
def _started(worker: Worker, interrupts: Interrupts) -> Iterator[None]:
    """The worker while it runs. An interrupt ends its start, in which nothing has begun yet."""
    interrupts.raise_at_once = True
    worker.start()
    interrupts.raise_at_once = False
    with worker:
        yield


def _continue(worker: Worker, run: Run) -> str:
    if run.flow_slug not in worker.flow_slugs:
        raise UsageError(
            message=f"Run {run.run_id} is of flow {run.flow_slug}, not of {worker.flow_slugs[0]}: give the "
            "reference of its flow"
        )
    return run.run_id


def _ended_meanwhile(client: Client, run_id: str) -> Run | None:
    """The run, if its last tasks were those that were running."""
    try:
        run = client.get(run_id)
    except DatabaseError:  # it may be the reason for the interrupt
        return None
    return run if run.status != "started" else None


def _say_how_to_continue(flow: str, run_id: str, *, slots: int | None, no_preload: bool, database: str | None) -> None:
    arguments = ["run", flow, "--continue", run_id]
    arguments += ["--slots", str(slots)] if slots is not None else []
    arguments += ["--no-preload"] if no_preload else []
    arguments += ["--database", database] if database is not None else []
    click.echo(f"Run {run_id} is not finished. To go on with it:\n  {program()} {shlex.join(arguments)}", err=True)
