"""Options that the suites share, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import peers
from pgflow.bench.options import QUICK_REPEAT, REPEAT, Options
from pgflow.cli.bench import folder_exists, json_option, size_option
from pgflow.worker import available_cores

Command = TypeVar("Command", bound=Callable[..., Any])
ALL = "all"
PLOT_SUFFIXES = (".svg", ".png", ".pdf")


def _plot_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in PLOT_SUFFIXES:
        raise click.BadParameter(f"{path} must end with one of {', '.join(PLOT_SUFFIXES)}")
    if path is not None and (why := peers.missing_packages(("matplotlib",))):
        raise click.BadParameter(f"{why}: pip install -e '.[bench]'")
    return folder_exists(context, parameter, path)


plot_option = click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_plot_file,
    metavar="FILE",
    help="Draw them into this file too (.svg, .png, .pdf).",
)
quick_option = click.option("--quick", is_flag=True, help="A few of the loads; less than two minutes.")
database_option = click.option(
    "--database", metavar="URL", help="Without it the usual order of choice, else the embedded server."
)
slots_option = click.option(
    "--slots",
    type=click.IntRange(1, 1_000),
    default=available_cores(),
    show_default=True,
    metavar="N",
    help="Pool processes of pgflow, worker processes of peers.",
)
repeat_option = click.option(
    "--repeat",
    type=click.IntRange(1, 1_000),
    metavar="N",
    help=f"Measurements of each load; the median counts [default: {REPEAT}; with --quick {QUICK_REPEAT}].",
)


def _peers(value: str, known: Sequence[str]) -> list[str]:
    names = list(known) if value == ALL else [name.strip() for name in value.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}, {ALL}", param_hint="--against")
    return list(dict.fromkeys(names))


def against_option(known: Sequence[str]) -> Callable[[Command], Command]:
    """``--against``, with the names that the suite knows."""

    def checked(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
        return _peers(value, known)

    return click.option(
        "--against", default="", callback=checked, metavar="PEER,...", help=f"Peers: {', '.join(known)}, or {ALL}."
    )


def _alone(_context: click.Context, _parameter: click.Parameter, value: str) -> None:
    if value:
        raise click.BadParameter("this suite measures pgflow alone; peers are in throughput, latency and kill")


no_peers_option = click.option("--against", default="", callback=_alone, expose_value=False, hidden=True)


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A command's options, in the order in which its help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def given(slots: int, repeat: int | None, size: float, quick: bool) -> Options:
    """What a suite is told."""
    return Options(slots=slots, repeat=repeat or (QUICK_REPEAT if quick else REPEAT), size=size, quick=quick)


COMMON = with_options(quick_option, json_option, plot_option, database_option, slots_option, repeat_option, size_option)
