"""How a run ended, told to who waited for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgflow.cli.failures import RUN_FAILED

if TYPE_CHECKING:
    from pgflow.client import Client, Run


def report(client: Client, ended: Run) -> None:
    """Print the run's output as one line of JSON, or say what failed it and end with its exit code."""
    from pgflow import codec

    if ended.status == "completed":
        # What came out of the database may be larger than what one task may put in.
        click.echo(codec.encode(ended.output, max_bytes=sys.maxsize, max_values=sys.maxsize))
        sys.stdout.flush()  # here, so that a closed pipe is noticed while it can be handled
        return
    failure = client.first_failure(ended.run_id)
    if failure is None:
        click.echo(f"Run {ended.run_id} failed", err=True)
    else:
        element = f"[{failure.task_index}]" if failure.kind == "map" and failure.task_index is not None else ""
        attempt = f", attempt {failure.attempts}" if failure.attempts else ""
        click.echo(
            f"Run {ended.run_id} failed: {failure.step_slug}{element}{attempt}:\n{failure.error_message}",
            err=True,
        )
    sys.exit(RUN_FAILED)
