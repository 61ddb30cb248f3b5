"""``pgflow run``: one run from start to output, with a worker of its own."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from pgflow.cli.failures import INTERRUPTED, RUN_FAILED
from pgflow.cli.options import (
    allow_data_loss_option,
    database_option,
    input_option,
    preload_option,
    read_input,
    slots_option,
)

if TYPE_CHECKING:
    from pgflow.client import Client, Run


@click.command()
@click.argument("flow")
@input_option
@database_option
@slots_option
@allow_data_loss_option
@preload_option
@click.option("--continue", "run_id", metavar="RUN_ID", help="Go on with a run that was interrupted.")
def run(
    flow: str,
    input_source: str,
    database: str | None,
    slots: int | None,
    allow_data_loss: bool,
    preload: bool,
    run_id: str | None,
) -> None:
    """Start a run of FLOW and a worker, show how far it is, and print its output as one line of JSON.

    Installs the SQL core and compiles the flow if need be.
    """
    from pgflow.cli.interrupts import Interrupts
    from pgflow.cli.lines import RelayedLines
    from pgflow.cli.progress import watch
    from pgflow.client import Client
    from pgflow.database.choice import open_database
    from pgflow.worker import Worker

    value = read_input(input_source)
    with open_database(database) as opened, RelayedLines() as lines:
        worker = Worker(
            opened,
            [flow],
            slots=slots,
            preload=preload,
            allow_data_loss=allow_data_loss,
            stderr=lines.writer,
        )
        client = Client(opened)
        if run_id is not None:
            client.get(run_id)
        with worker, Interrupts(worker.end_at_once) as interrupts:
            lines.close_writer()
            current = run_id if run_id is not None else client.start(worker.flow_slugs[0], value)
            click.echo(f"run {current}{' goes on' if run_id is not None else ''}", err=True)
            ended = watch(client, worker, current, lines, interrupts)
            if ended is None:
                click.echo("Interrupted: finishing what runs. Ctrl-C again ends it at once.", err=True)
                worker.stop()
        if ended is None:
            _say_how_to_continue(flow, database, current)
            sys.exit(INTERRUPTED)
        _report(client, ended)


def _say_how_to_continue(flow: str, database: str | None, run_id: str) -> None:
    program = "pgflow" if os.path.basename(sys.argv[0]) == "pgflow" else f"{sys.executable} -m pgflow"
    chosen = ["--database", database] if database else []
    rest = shlex.join(["run", flow, "--continue", run_id, *chosen])
    click.echo(f"Run {run_id} is not finished. To go on with it:\n  {program} {rest}", err=True)


def _report(client: Client, ended: Run) -> None:
    from pgflow import codec

    if ended.status == "completed":
        click.echo(codec.encode(ended.output))
        sys.stdout.flush()  # here, so that a closed pipe is noticed while it can be handled
        return
    failure = client.first_failure(ended.run_id)
    if failure is None:
        click.echo(f"Run {ended.run_id} failed", err=True)
    else:
        click.echo(
            f"Run {ended.run_id} failed: {failure.step_slug}[{failure.task_index}], "
            f"attempt {failure.attempts}:\n{failure.error_message}",
            err=True,
        )
    sys.exit(RUN_FAILED)
