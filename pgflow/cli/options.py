"""Options and arguments that several commands share."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgflow.errors import InputNotDecodableError, OutputNotSerializableError, UsageError

if TYPE_CHECKING:
    from pgflow.flow import Flow

database_option = click.option(
    "--database",
    metavar="URL",
    help="PostgreSQL to use. Without it: PGFLOW_DATABASE_URL, DATABASE_URL, libpq's PG* variables, else the "
    "embedded server.",
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
no_preload_option = click.option(
    "--no-preload",
    is_flag=True,
    help="Import the flows in each pool process by itself.",
)


def read_input(source: str) -> Any:
    """The input that ``--input`` means: JSON, the JSON in a file, or that on standard input.

    Raises UsageError naming the source and what is wrong with it.
    """
    from pgflow import codec

    name, text = _read(source)
    try:
        value = codec.decode(text)
        codec.encode(value)  # JSON that PostgreSQL cannot hold is refused before anything is started
    except InputNotDecodableError as error:
        raise UsageError(
            message=f'--input: {name} is not JSON: {error.values["reason"]} (strings and keys go in "double quotes")'
        ) from None
    except OutputNotSerializableError as error:
        reason, path = error.values["reason"], error.values["path"]
        raise UsageError(message=f"--input: {name} cannot be stored: {reason} at {path}") from None
    return value


def _read(source: str) -> tuple[str, str]:
    if source != "-" and not source.startswith("@"):
        return repr(source if len(source) <= 60 else source[:57] + "..."), source
    name = "standard input" if source == "-" else source[1:]
    try:
        return name, (sys.stdin.buffer.read() if source == "-" else Path(name).read_bytes()).decode()
    except OSError as error:
        raise UsageError(message=f"--input: cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(message=f"--input: {name} is not UTF-8 text") from None


def load_quietly(reference: str) -> Flow:
    """The flow, for commands without a worker; standard output is kept for data whatever its import prints.

    Raises FlowNotFoundError, FlowImportError or FlowDefinitionError.
    """
    from pgflow.reference import load_flow

    with contextlib.redirect_stdout(sys.stderr):
        return load_flow(reference)
