"""``pgflow tasks``: what tasks a run has, and everything about one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pgflow.cli.options import database_option, json_option
from pgflow.cli.text import Cell, Sheet, duration, first_line, status_cell
from pgflow.errors import TaskAddressError

if TYPE_CHECKING:
    from pgflow.database import Database
    from pgflow.database.inspection.runs import StepState
    from pgflow.database.inspection.tasks import TaskDump, TaskState

_ADDRESS = re.compile(
    r"(?P<run>[^:]+)(:(?P<step>[A-Za-z_][A-Za-z0-9_]*)(:(?P<index>\d{1,9})|\[(?P<element>\d{1,9})\])?)?"
)


@dataclass(frozen=True, slots=True)
class _Address:
    """What somebody typed to name tasks: a run by its id's beginning, maybe a step of it, maybe one of that's tasks."""

    run: str
    step: str | None
    index: int | None


class _AddressType(click.ParamType[_Address]):
    name = "task"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> _Address:
        match = _ADDRESS.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} names no task: write RUN, RUN:STEP or RUN:STEP:INDEX", param, ctx)
        index = match["index"] or match["element"]
        return _Address(match["run"], match["step"], None if index is None else int(index))


@click.group()
def tasks() -> None:
    """Show tasks, or everything about one.

    TASK is RUN:STEP:INDEX, such as 1f2e3d4c:measure:3. RUN is the run's id, or as much of its beginning as is unique;
    INDEX, from 0, is the element's of a map. RUN:STEP[INDEX], as messages have it, will do, too.
    """


@tasks.command()
@click.argument("address", metavar="TASK", type=_AddressType())
@click.option(
    "--status",
    type=click.Choice(["queued", "started", "completed", "failed", "skipped"]),
    help="Only tasks of this status.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="How many at most."
)
@database_option
@json_option
def show(address: _Address, status: str | None, limit: int, database: str | None, as_json: bool) -> None:
    """List the tasks of RUN or RUN:STEP, or show one. They come in the order of steps and elements."""
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_run
    from pgflow.database.inspection.runs import run_steps
    from pgflow.database.inspection.tasks import dump_task, list_tasks

    with open_database(database) as opened:
        own = own_tables(opened)
        run_id = find_run(opened, address.run)
        _require_step(run_id, run_steps(opened, own, run_id), address.step)
        if address.index is not None and address.step is not None:
            found = dump_task(opened, own, run_id, address.step, address.index)
            _show_one(_required(opened, found, run_id, address.step, address.index), as_json=as_json)
            return
        listed, more = list_tasks(opened, run_id, step_slug=address.step, status=status, limit=limit)
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json({"run_id": run_id, "tasks": listed, "more": more})
        return
    sheet = Sheet()
    sheet.table(
        ["TASK", "STATUS", "ATTEMPT", "STARTED", "TOOK", "WORKER", "REASON"],
        [_row(sheet, task) for task in listed],
        right=["TOOK"],
    )
    sheet.note_more(len(listed), more, "task")


def _row(sheet: Sheet, task: TaskState) -> list[Cell | str]:
    return [
        f"{task.step_slug}[{task.task_index}]",
        status_cell("stalled" if task.stalled_at else task.status),
        f"{task.attempts} of {task.max_attempts}",
        sheet.time(task.started_at),
        duration(task.seconds),
        sheet.id(task.worker_id) if task.worker_id else "-",
        first_line(task.error_message),
    ]


def _show_one(dump: TaskDump, *, as_json: bool) -> None:
    from pgflow.cli.task_view import in_short

    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json(dump)
        return
    sheet = Sheet()
    for line in in_short(dump):
        sheet.line(line)


@tasks.command()
@click.argument("address", metavar="TASK", type=_AddressType())
@click.option("--full", is_flag=True, help="Shorten nothing; else texts are cut at 4,000 characters, attempts at 50.")
@database_option
@json_option
def dump(address: _Address, full: bool, database: str | None, as_json: bool) -> None:
    """Print everything about one task, for a report. Input, output, attempts with what killed them, its run, its
    step's options, its message and its worker; the database's password is not in it.

    RUN alone, or RUN:STEP, means the task that failed it first, or its only one.
    """
    from pgflow.cli.task_view import report_on
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.identifiers import find_run
    from pgflow.database.inspection.payload import ALL, CHARACTERS
    from pgflow.database.inspection.runs import run_steps
    from pgflow.database.inspection.tasks import dump_task

    with open_database(database) as opened:
        own = own_tables(opened)
        run_id = find_run(opened, address.run)
        _require_step(run_id, run_steps(opened, own, run_id), address.step)
        step, index = _located(opened, run_id, address)
        found = dump_task(opened, own, run_id, step, index, characters=ALL if full else CHARACTERS)
        report = report_on(opened, own, _required(opened, found, run_id, step, index))
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json(report)
    else:
        for line in report.lines():
            click.echo(line)


def _require_step(run_id: str, steps: tuple[StepState, ...], step: str | None) -> None:
    slugs = [one.step_slug for one in steps]
    if step is not None and step not in slugs:
        raise TaskAddressError(message=f"Run {run_id} has no step {step}; it has {', '.join(slugs) or 'none'}")


def _located(database: Database, run_id: str, address: _Address) -> tuple[str, int]:
    """The one task that was meant."""
    from pgflow.database.inspection.tasks import list_tasks
    from pgflow.database.runs import first_failure

    if address.step is not None and address.index is not None:
        return address.step, address.index
    failure = first_failure(database, run_id)
    if failure is not None and failure.task_index is not None and address.step in (None, failure.step_slug):
        return failure.step_slug, failure.task_index
    for status in (None, "failed"):
        found, more = list_tasks(database, run_id, step_slug=address.step, status=status, limit=1)
        if found and (status or not more):
            return found[0].step_slug, found[0].task_index
    place = run_id if address.step is None else f"{run_id}:{address.step}"
    if not found and not list_tasks(database, run_id, step_slug=address.step, limit=1)[0]:
        raise TaskAddressError(message=f"{place} has no tasks yet")
    raise TaskAddressError(
        message=f"{place} is several tasks, and none of them failed: name one as RUN:STEP:INDEX; "
        f"`pgflow tasks show {place}` lists them"
    )


def _required(database: Database, found: TaskDump | None, run_id: str, step: str, index: int) -> TaskDump:
    from pgflow.database.inspection.tasks import list_tasks

    if found is not None:
        return found
    if list_tasks(database, run_id, step_slug=step, limit=1)[0]:
        raise TaskAddressError(
            message=f"Step {step} of run {run_id} has no task {index}: `pgflow tasks show {run_id}:{step}` lists them"
        )
    raise TaskAddressError(message=f"Step {step} of run {run_id} has no tasks (yet): `pgflow runs show {run_id}`")
