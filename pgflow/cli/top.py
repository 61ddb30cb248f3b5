"""``pgflow top``: what goes on, live."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pgflow.cli.options import database_option, json_option

if TYPE_CHECKING:
    from rich.text import Text

    from pgflow.database import Database
    from pgflow.database.inspection.activity import Look, Observer
    from pgflow.database.inspection.timeline import Timeline

LOOK_SECONDS = 1.0
_PLAIN_WIDTH = 120


@click.command()
@click.option("--flow", "flows", metavar="FLOW", multiple=True, help="Only this flow; may be given several times.")
@database_option
@json_option
def top(flows: Sequence[str], database: str | None, as_json: bool) -> None:
    """Show what goes on, live: queues, what workers did within the last minute, and what failed. q or Ctrl-C ends it.

    A lane is one task at a time of a worker, and blocks are how busy it was; K is a task killed at its deadline, C one
    that crashed, M one out of memory, x one that failed. Where standard output is no terminal, and with --json, it is
    one look. Looks are cheap: counts of messages end at 10,000, and of many flows 50 are shown, unless --flow names
    others.
    """
    from pgflow.database.choice import open_database
    from pgflow.database.inspection import own_tables
    from pgflow.database.inspection.activity import Observer
    from pgflow.database.inspection.identifiers import find_flow
    from pgflow.database.inspection.timeline import Timeline

    with open_database(database) as opened:
        own = own_tables(opened)
        observer = Observer(opened, own, [find_flow(opened, flow) for flow in flows])
        timeline = Timeline()
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not as_json:
            _show_live(opened, observer, timeline)
            return
        look = observer.look()
        timeline.note(look)
        if as_json:
            _print_json(opened, look, timeline)
        else:
            _print_plain(opened, look, timeline)


def _print_json(database: Database, look: Look, timeline: Timeline) -> None:
    from pgflow.cli.jsontext import print_json

    print_json(
        {
            "at": look.at,
            "database": database.target,
            "flows": look.flows,
            "more_flows": look.more_flows,
            "workers": list(timeline.workers),
            "failures": list(timeline.failures),
        }
    )


def _print_plain(database: Database, look: Look, timeline: Timeline) -> None:
    from pgflow.cli.text import Sheet
    from pgflow.cli.top_view import Room, screen

    sheet = Sheet()
    for line in screen(look, timeline, database.target, Room(_PLAIN_WIDTH, None)):
        sheet.line(line.plain)


def _show_live(database: Database, observer: Observer, timeline: Timeline) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    from pgflow.cli.interrupts import Interrupts
    from pgflow.cli.keyboard import single_keys, suspending
    from pgflow.cli.top_view import Room, screen
    from pgflow.errors import DatabaseUnreachableError
    from pgflow.terminal import shortened

    console = Console()
    lines: list[Text] = []
    with (
        Interrupts(lambda: None) as interrupts,
        single_keys() as keys,
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        suspending(console, keys),
    ):
        while True:
            room = Room(console.width, console.height)
            try:
                look = observer.look()
                timeline.note(look)
                lines = screen(look, timeline, database.target, room)
            except DatabaseUnreachableError as error:
                lines = [_line(shortened(f"waiting for the database: {error}", room.width)), *lines[1:]]
            for line in lines:
                line.no_wrap, line.overflow = True, "ellipsis"
            live.update(Group(*lines), refresh=True)
            if interrupts.wait(LOOK_SECONDS, keys) or _is_quit(keys):
                return


def _line(text: str) -> Text:
    from rich.text import Text

    return Text(text, style="bold red")


def _is_quit(keys: int | None) -> bool:
    """Whether somebody has typed q, or the terminal has gone."""
    import select

    if keys is None or not select.select([keys], [], [], 0)[0]:
        return False
    typed = os.read(keys, 1024)
    return not typed or b"q" in typed.lower()
