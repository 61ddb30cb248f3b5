"""``pgflow flows``: which there are, and how one is defined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow.cli.options import database_option, json_option, limit_option
from pgflow.cli.text import Cell, Sheet, counted, tree

if TYPE_CHECKING:
    from pgflow.database.inspection.flows import FlowDetail, FlowSummary

_TITLE = 10


@click.group()
def flows() -> None:
    """List flows, or show one.

    FLOW is a flow's slug, or as much of its beginning as is unique.
    """


@flows.command("list")
@limit_option
@database_option
@json_option
def list_(limit: int, database: str | None, as_json: bool) -> None:
    """List flows, those with the newest run first. With what became of their runs in the last 24 hours."""
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.flows import list_flows

    with open_database(database) as opened:
        own_tables(opened)
        found, more = list_flows(opened, limit=limit)
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json({"flows": found, "more": more})
        return
    sheet = Sheet()
    sheet.table(
        ["FLOW", "STEPS", "UNFINISHED", "24H RUNS", "DONE", "FAILED", "LAST RUN"],
        [_row(sheet, flow) for flow in found],
        right=["STEPS", "UNFINISHED", "24H RUNS", "DONE", "FAILED"],
    )
    sheet.note_more(len(found), more, "flow")


def _row(sheet: Sheet, flow: FlowSummary) -> list[Cell | str]:
    return [
        flow.flow_slug,
        str(flow.steps),
        f"{flow.unfinished_runs:,}",
        f"{flow.day_started:,}",
        f"{flow.day_completed:,}",
        Cell(f"{flow.day_failed:,}", "red" if flow.day_failed else None),
        sheet.time(flow.last_started_at),
    ]


@flows.command()
@click.argument("flow")
@database_option
@json_option
def show(flow: str, database: str | None, as_json: bool) -> None:
    """Show a flow's steps as a tree. With their options, and what became of its runs in the last 24 hours."""
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.flows import flow_detail
    from pgflow.database.inspection.identifiers import find_flow

    with open_database(database) as opened:
        own = own_tables(opened)
        detail = flow_detail(opened, own, find_flow(opened, flow))
    if as_json:
        from pgflow.cli.jsontext import print_json

        print_json(detail)
    else:
        _show(Sheet(), detail)


def _show(sheet: Sheet, detail: FlowDetail) -> None:
    from pgflow.cli.task_view import step_in_words

    flow = detail.flow
    sheet.line(_title("flow"), f"{flow.flow_slug}, defined {sheet.time(flow.created_at)}")
    sheet.line(
        _title("options"),
        f"timeout {flow.timeout} s, max_attempts {flow.max_attempts}, base_delay {flow.base_delay} s",
    )
    sheet.line(
        _title("last 24 h"),
        f"{counted(flow.day_started, 'run')} started, {flow.day_completed:,} completed, {flow.day_failed:,} failed",
    )
    last = f", the last since {sheet.time(flow.last_started_at)}" if flow.last_started_at else ""
    sheet.line(_title("now"), f"{counted(flow.unfinished_runs, 'unfinished run')}{last}")
    sheet.line()
    placed = tree(detail.steps, lambda step: step.step_slug, lambda step: step.depends_on)
    width = max((len(branches + step.step_slug) for branches, step, _ in placed), default=0)
    for branches, step, _ in placed:
        sheet.line(branches, f"{step.step_slug:<{width - len(branches)}}  ", "; ".join(step_in_words(step)), cut=False)


def _title(title: str) -> Cell:
    return Cell(f"{title:<{_TITLE}}", "bright_black")
