"""Options and arguments that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pgflow.errors import InputNotDecodableError, UsageError

database_option = click.option(
    "--database",
    metavar="URL",
    help="PostgreSQL to use. Without it: PGFLOW_DATABASE_URL, DATABASE_URL, libpq's PG* variables, else the embedded "
    "server.",
)
slots_option = click.option(
    "--slots",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tasks at a time, one process each [default: the cores].",
)
input_option = click.option(
    "--input", "input_source", default="{}", metavar="JSON|@FILE|-", help="The run's input [default: {}]."
)
allow_data_loss_option = click.option(
    "--allow-data-loss", is_flag=True, help="Recompile a flow whose steps have changed; its runs are deleted."
)
preload_option = click.option(
    "--no-preload",
    "preload",
    is_flag=True,
    default=True,
    help="Import the flows in each pool process by itself.",
)


def read_input(source: str) -> Any:
    """The input that ``--input`` means: JSON, the JSON in a file, or that on standard input.

    Raises UsageError naming the source and what is wrong with it.
    """
    from pgflow import codec

    name, text = _read(source)
    try:
        return codec.decode(text)
    except InputNotDecodableError as error:
        raise UsageError(message=f"--input: {name} is not JSON: {error.values['reason']}") from None


def _read(source: str) -> tuple[str, str]:
    if source == "-":
        return "standard input", sys.stdin.read()
    if not source.startswith("@"):
        return repr(source if len(source) <= 60 else source[:57] + "..."), source
    try:
        return source[1:], Path(source[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(message=f"--input: cannot read {source[1:]}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(message=f"--input: {source[1:]} is not UTF-8 text") from None
