"""``pgflow workers``: which there are, and how to have one end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pgflow.cli.options import confirm, database_option, json_option, limit_option, yes_option
from pgflow.cli.text import Cell, Sheet, ago, counted, printable, status_cell
from pgflow.errors import UsageError

if TYPE_CHECKING:
    from pgflow.database import Database
    from pgflow.database.inspection import OwnTables
    from pgflow.database.inspection.workers import WorkerState

_ALL = 2**31 - 2


@click.group()
def workers() -> None:
    """List workers, or have them end.

    WORKER is a worker's id, or as much of its beginning as is unique.
    """


@workers.command("list")
@click.option("--flow", metavar="FLOW", help="Only workers that serve this flow.")
@click.option(
    "--status", type=click.Choice(["alive", "silent", "deprecated", "stopped"]), help="Only workers of this status."
)
@limit_option
@database_option
@json_option
def list_(flow: str | None, status: str | None, limit: int, database: str | None, as_json: bool) -> None:
    """List workers, those that go on first, then the newest.

    A worker is alive, silent (no sign of life for 30 seconds), deprecated (it finishes what it runs and ends) or
    stopped.
    """
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_flow
    from pgflow.database.inspection.workers import list_workers

    with open_database(database) as opened:
        own = own_tables(opened)
        slug = None if flow is None else find_flow(opened, flow)
        found, more = list_workers(opened, own, flow_slug=slug, status=status, limit=limit)
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json({"workers": found, "more": more})
        return
    sheet = Sheet()
    sheet.table(
        ["WORKER", "STATUS", "HOLDS", "HEARD", "STARTED", "PROCESS", "FLOWS"],
        [_row(sheet, worker) for worker in found],
        right=["HOLDS", "HEARD"],
    )
    sheet.note_more(len(found), more, "worker")


def _row(sheet: Sheet, worker: WorkerState) -> list[Cell | str]:
    process = printable(worker.name) if worker.host is None else f"{worker.host}:{worker.pid}"
    return [
        sheet.id(worker.worker_ids[0]),
        status_cell(worker.status),
        f"{worker.holds:,}",
        ago(worker.silent_seconds),
        sheet.time(worker.started_at),
        process,
        ", ".join(worker.flow_slugs),
    ]


@workers.command()
@click.argument("workers", metavar="[WORKER...]", nargs=-1)
@click.option("--flow", metavar="FLOW", help="All workers that serve this flow and have not stopped.")
@yes_option
@database_option
@json_option
def deprecate(workers: Sequence[str], flow: str | None, yes: bool, database: str | None, as_json: bool) -> None:
    """Have workers finish what they run and end. They learn of it within seconds, and claim nothing more.

    It sets workers.deprecated_at, which workers of other languages heed, too. One of several flows ends as a whole.
    """
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection import workers as inspected

    if bool(workers) == (flow is not None):
        raise UsageError(message="Name workers, or with --flow the flow whose workers shall end")
    with open_database(database) as opened:
        own = own_tables(opened)
        found = _meant(opened, own, workers, flow)
        for worker in found:
            click.echo(f"deprecate {_in_words(worker)}", err=True)
        confirm(f"Have {counted(len(found), 'worker')} end?", yes=yes)
        for worker in found:
            is_new = inspected.deprecate(opened, worker)
            if not as_json:
                click.echo(f"{'deprecated' if is_new else 'was deprecated before:'} {worker.worker_ids[0]}")
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json({"workers": found})


def _meant(database: Database, own: OwnTables, given: Sequence[str], flow: str | None) -> list[WorkerState]:
    from pgflow.database.inspection.identifiers import find_flow
    from pgflow.database.inspection.workers import find_worker, list_workers

    if flow is None:
        named = [find_worker(database, own, one) for one in given]
        found = list({worker.worker_ids: worker for worker in named}.values())
        for worker in found:
            if worker.status == "stopped":
                raise UsageError(message=f"Worker {worker.worker_ids[0]} ({worker.name}) has stopped already")
        return found
    slug = find_flow(database, flow)
    serving, _ = list_workers(database, own, flow_slug=slug, limit=_ALL)
    going = [worker for worker in serving if worker.status != "stopped"]
    if not going:
        raise UsageError(message=f"No worker serves {slug}: `pgflow workers list` shows which there are")
    return going


def _in_words(worker: WorkerState) -> str:
    process = printable(worker.name) if worker.host is None else f"{worker.host}:{worker.pid}"
    held = counted(worker.holds, "task")
    return f"{worker.worker_ids[0]} ({process}, {worker.status}) of {', '.join(worker.flow_slugs)}: holds {held}"
