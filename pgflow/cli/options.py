"""Options and arguments that several commands share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgflow.errors import InputNotDecodableError, OutputNotSerializableError, UsageError
from pgflow.quantity import parse_duration, parse_size

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
json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON (docs/cli.md).")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="How many at most."
)
no_preload_option = click.option(
    "--no-preload",
    is_flag=True,
    help="Import the flows in each pool process by itself.",
)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal, unless ``yes``; whoever declines ends the command with exit code 1. Elsewhere nobody is there
    to be asked, and who called a command there meant it."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


class Size(click.ParamType[int]):
    """Bytes, as ``parse_size`` takes them."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes."""
        try:
            return parse_size(int(value) if isinstance(value, str) and value.isdigit() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[float]):
    """Seconds, as ``parse_duration`` takes them."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_LIMITS = (
    click.option(
        "--memory",
        type=Size(),
        metavar="SIZE",
        help="What a task may have resident, with what it starts, if its step does not say: 512MiB, 2G. Past it the "
        "task is killed.",
    ),
    click.option(
        "--max-address-space", type=Size(), metavar="SIZE", help="RLIMIT_AS of each pool process (MemoryError past it)."
    ),
    click.option(
        "--max-tasks-per-process",
        type=click.IntRange(min=1),
        metavar="N",
        help="Replace a pool process after N tasks.",
    ),
    click.option(
        "--max-memory-per-process",
        type=Size(),
        metavar="SIZE",
        help="Replace a pool process that has more resident after a task.",
    ),
    click.option(
        "--min-free-memory",
        type=Size(),
        metavar="SIZE",
        help="Claim nothing while the machine has less to give.",
    ),
)


def limit_options(command: CommandT) -> CommandT:
    """The options that limit what tasks and processes take, as Worker's arguments of these names."""
    for option in reversed(_LIMITS):
        command = option(command)
    return command


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
