"""``pgflow runs``: what runs there are, how one does, and how to end it or let it go on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pgflow.cli.failures import INTERRUPTED, RUN_FAILED
from pgflow.cli.options import confirm, database_option, json_option, limit_option, yes_option
from pgflow.cli.text import Cell, Sheet, counted, duration, first_line, status_cell

if TYPE_CHECKING:
    from pgflow.client import Client
    from pgflow.database import Database
    from pgflow.database.inspection.interventions import Touched, Verb
    from pgflow.database.inspection.runs import RunSummary


@click.group()
def runs() -> None:
    """List, show, watch, cancel or retry runs.

    RUN is a run's id, or as much of its beginning as is unique.
    """


@runs.command("list")
@click.option("--flow", metavar="FLOW", help="Only runs of this flow.")
@click.option("--status", type=click.Choice(["started", "completed", "failed"]), help="Only runs of this status.")
@limit_option
@database_option
@json_option
def list_(flow: str | None, status: str | None, limit: int, database: str | None, as_json: bool) -> None:
    """List runs, the newest first."""
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_flow
    from pgflow.database.inspection.runs import list_runs

    with open_database(database) as opened:
        own_tables(opened)
        slug = None if flow is None else find_flow(opened, flow)
        found, more = list_runs(opened, flow_slug=slug, status=status, limit=limit)
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json({"runs": found, "more": more})
        return
    sheet = Sheet()
    sheet.table(
        ["RUN", "FLOW", "STATUS", "STARTED", "TOOK", "STEPS", "REASON"],
        [_row(sheet, run) for run in found],
        right=["TOOK", "STEPS"],
    )
    sheet.note_more(len(found), more, "run")


def _row(sheet: Sheet, run: RunSummary) -> list[Cell | str]:
    reason = f"{run.failed_step}: {first_line(run.error_message)}" if run.failed_step else ""
    return [
        sheet.id(run.run_id),
        run.flow_slug,
        status_cell(run.status),
        sheet.time(run.started_at),
        duration(run.seconds),
        f"{run.ended_steps}/{run.steps}",
        reason,
    ]


@runs.command()
@click.argument("run")
@database_option
@json_option
def show(run: str, database: str | None, as_json: bool) -> None:
    """Show a run's steps as a tree. With state, counts, times, and the reason of the first failure."""
    from pgflow.cli.run_view import show_run
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_run
    from pgflow.database.inspection.runs import run_detail

    with open_database(database) as opened:
        own = own_tables(opened)
        detail = run_detail(opened, own, find_run(opened, run))
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json(detail)
    else:
        show_run(Sheet(), detail)


@runs.command()
@click.argument("run")
@database_option
@json_option
def watch(run: str, database: str | None, as_json: bool) -> None:
    """Show a run's progress until it ends. Then print its output as `pgflow run` does; with --json what `runs show
    --json` prints. Exit code 0 if it completed, 1 if it failed."""
    from pgflow.cli.ending import report
    from pgflow.cli.interrupts import Interrupts
    from pgflow.cli.watch import follow
    from pgflow.client import Client
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_run
    from pgflow.database.inspection.runs import run_detail

    with open_database(database) as opened, Interrupts(lambda: None) as interrupts:
        own = own_tables(opened)
        run_id = find_run(opened, run)
        client = Client(opened)
        _say_who_works(opened, client, run_id)
        ended = follow(client, run_id, interrupts)
        if ended is None:
            click.echo(f"Run {run_id} goes on", err=True)
            sys.exit(INTERRUPTED)
        if not as_json:
            report(client, ended)
            return
        from pgflow.cli.jsontext import print_json

        print_json(run_detail(opened, own, run_id))
        if ended.status == "failed":
            sys.exit(RUN_FAILED)


def _say_who_works(database: Database, client: Client, run_id: str) -> None:
    """A run that nobody works on would be watched for ever without a word."""
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.workers import list_workers

    run = client.get(run_id)
    if run.status != "started":
        return
    workers, _ = list_workers(database, own_tables(database), flow_slug=run.flow_slug, status="alive", limit=1)
    if not workers:
        click.echo(f"no worker serves {run.flow_slug} now: start one with `pgflow worker`", err=True)


@runs.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="Why; it becomes the error of its steps, and is kept.")
@yes_option
@database_option
@json_option
def cancel(runs: Sequence[str], reason: str | None, yes: bool, database: str | None, as_json: bool) -> None:
    """End runs that go on. They fail, their running tasks are killed within seconds, the others are dropped."""
    _intervene("cancel", runs, reason=reason, yes=yes, database=database, as_json=as_json)


@runs.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="Why; it is kept.")
@yes_option
@database_option
@json_option
def retry(runs: Sequence[str], reason: str | None, yes: bool, database: str | None, as_json: bool) -> None:
    """Let failed runs go on where they failed. Attempts count from zero; what has completed is kept. Of a run that
    goes on, the tasks are queued again that have stalled for good."""
    _intervene("retry", runs, reason=reason, yes=yes, database=database, as_json=as_json)


_DONE: dict[Verb, str] = {"cancel": "cancelled", "retry": "retried"}


def _intervene(
    verb: Verb, runs: Sequence[str], *, reason: str | None, yes: bool, database: str | None, as_json: bool
) -> None:
    from pgflow.client import Client
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_run
    from pgflow.database.inspection.interventions import touched_by

    with open_database(database) as opened:
        own = own_tables(opened)
        client = Client(opened)
        run_ids = list(dict.fromkeys(find_run(opened, run) for run in runs))
        touched = [touched_by(opened, own, verb, run_id) for run_id in run_ids]
        for one in touched:
            click.echo(f"{verb} {one.run.run_id} of {one.run.flow_slug}: {_in_words(one)}", err=True)
        confirm(f"{verb.capitalize()} {counted(len(touched), 'run')}?", yes=yes)
        for one in touched:
            (client.cancel if verb == "cancel" else client.retry)(one.run.run_id, reason)
            if not as_json:
                click.echo(f"{_DONE[verb]} {one.run.run_id}")
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json({"runs": touched})


def _in_words(touched: Touched) -> str:
    """What becomes of the run's tasks."""
    steps = ", ".join(touched.steps) or "no step"
    if touched.verb == "cancel":
        return f"{steps}; running tasks that are killed: {touched.started:,}, queued ones dropped: {touched.queued:,}"
    if touched.run.status == "started":
        return "it goes on; only tasks that have stalled for good are queued again"
    again = touched.started + touched.queued + touched.failed
    return f"{steps}; tasks queued again: {again:,}, completed ones kept: {touched.completed:,}"
