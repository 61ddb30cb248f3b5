"""The command line: ``pgflow``. One module per verb group, imported when its verb is called; no logic of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from pgflow._version import VERSION
from pgflow.cli.failures import ending_in_words

_COMMANDS = {
    "run": ("pgflow.cli.run", "Start a run and a worker, watch it, print its output."),
    "batch": ("pgflow.cli.batch", "Run a function over a file of items, on all cores."),
    "worker": ("pgflow.cli.worker", "Serve flows until told to stop."),
    "start": ("pgflow.cli.start", "Start a run for workers elsewhere."),
    "compile": ("pgflow.cli.compile", "Define a flow in the database, or print its SQL."),
    "schema": ("pgflow.cli.schema", "Install, verify or print the SQL core, grant its use."),
    "runs": ("pgflow.cli.runs", "List, show, watch, cancel or retry runs."),
    "tasks": ("pgflow.cli.tasks", "Show tasks, or everything about one."),
    "workers": ("pgflow.cli.workers", "List workers, or have them end."),
    "flows": ("pgflow.cli.flows", "List flows, or show one."),
    "top": ("pgflow.cli.top", "Show what goes on, live."),
    "prune": ("pgflow.cli.prune", "Delete what ended long ago."),
    "bench": ("pgflow.cli.bench", "Measure pgflow in this database, for a minute."),
    "doctor": ("pgflow.cli.doctor", "Say what the database has and what needs somebody."),
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is called: ``pgflow --help`` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with ending_in_words():
            return super().invoke(ctx)


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="pgflow")
def main() -> None:
    """Workflows for CPU-heavy Python, with all state in PostgreSQL.

    FLOW is package.module:flow or path/file.py:flow.

    Exit codes: 0 ok, 1 the run failed, 2 usage, 3 database, 130 interrupted.
    """
