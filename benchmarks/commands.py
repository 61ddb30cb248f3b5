"""The command line: a command for each suite."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import batch as batch_suite
from benchmarks import batch_peers, peers
from benchmarks.beside import Beside
from benchmarks.options import (
    COMMON,
    against_option,
    database_option,
    given,
    no_peers_option,
    plot_option,
    quick_option,
    repeat_option,
    with_options,
)
from pgflow.bench import heartbeats, scaling, suites
from pgflow.bench.facts import circumstances
from pgflow.bench.figures import Figures
from pgflow.bench.kill import cases, contenders
from pgflow.bench.kill import measure as kill_measure
from pgflow.bench.options import Options
from pgflow.bench.report import Report
from pgflow.bench.site import ending_on_signals
from pgflow.cli.bench import json_option
from pgflow.cli.failures import ending_in_words


class _Group(click.Group):
    """Ends in words and with exit codes, as ``pgflow`` does."""

    def invoke(self, ctx: click.Context) -> Any:
        with ending_in_words():
            return super().invoke(ctx)


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure pgflow, and peers beside it. Prints one Markdown table."""


def commit() -> str:
    """The commit that is measured, with ``-dirty`` where files have changed since; empty if that is not known."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def finish(report: Report, json_path: Path | None, plot_path: Path | None) -> None:
    """Print the report, write and draw it."""
    if known := commit():
        report.facts["versions"]["pgflow"] += f" ({known})"
    click.echo(report.markdown())
    if json_path is not None:
        report.write(json_path)
    if plot_path is not None:
        from benchmarks.plots import draw

        draw(report, plot_path)


def _measure_beside(
    measure: Callable[[str | None, Options, suites.Peers], Report],
    against: Sequence[str],
    database: str | None,
    options: Options,
) -> Report:
    beside = Beside(against, options.slots)
    with ending_on_signals():
        return beside.completed(measure(database, options, beside))


@main.command()
@against_option(peers.NAMES)
@COMMON
def throughput(
    against: list[str],
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    database: str | None,
    slots: int,
    repeat: int | None,
    size: float,
) -> None:
    """Tasks per second, end to end: single-step runs, maps, DAGs; no-op, CPU, payloads."""
    options = given(slots, repeat, size, quick)
    finish(_measure_beside(suites.measure_throughput, against, database, options), json_path, plot_path)


@main.command()
@against_option(peers.NAMES)
@COMMON
def latency(
    against: list[str],
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    database: str | None,
    slots: int,
    repeat: int | None,
    size: float,
) -> None:
    """Start to handler start, handler end to the dependent's start, start to completed; idle and loaded."""
    options = given(slots, repeat, size, quick)
    finish(_measure_beside(suites.measure_latency, against, database, options), json_path, plot_path)


@main.command(name="scaling")
@no_peers_option
@COMMON
@click.option(
    "--max-rows",
    type=click.IntRange(0),
    default=scaling.ROWS[-1],
    show_default=True,
    metavar="N",
    help="No more tasks are put into the tables.",
)
@click.option(
    "--max-map",
    type=click.IntRange(1),
    default=scaling.MAPS[-1],
    show_default=True,
    metavar="N",
    help="No larger maps.",
)
def scaling_(
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    database: str | None,
    slots: int,
    repeat: int | None,
    size: float,
    max_rows: int,
    max_map: int,
) -> None:
    """Slots, the size of maps, rows that are in the tables already, dependents."""
    options = given(slots, repeat, size, quick)
    with ending_on_signals():
        report = suites.measure_scaling(database, options, max_rows=max_rows, max_map=max_map)
    finish(report, json_path, plot_path)


@main.command()
@no_peers_option
@COMMON
def overhead(
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    database: str | None,
    slots: int,
    repeat: int | None,
    size: float,
) -> None:
    """CPU time, statements and memory for each task."""
    with ending_on_signals():
        report = suites.measure_overhead(database, given(slots, repeat, size, quick))
    finish(report, json_path, plot_path)


@main.command()
@no_peers_option
@with_options(quick_option, json_option, plot_option, database_option, repeat_option)
@click.option(
    "--rows",
    type=click.IntRange(0, 100_000_000),
    default=0,
    show_default=True,
    metavar="N",
    help="Completed tasks of other runs that are in the tables beforehand.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Tasks that are claimed and completed at a time.",
)
@click.option(
    "--element-bytes",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    metavar="N",
    help="Text in each element of a map; with 0 the elements are numbers.",
)
def sql(
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    database: str | None,
    repeat: int | None,
    rows: int,
    batch: int,
    element_bytes: int,
) -> None:
    """The SQL core alone, one call at a time."""
    options = given(1, repeat, 1.0, quick)
    with ending_on_signals():
        report = suites.measure_sql(database, options, rows=rows, batch=batch, element_bytes=element_bytes)
    finish(report, json_path, plot_path)


@main.command()
@against_option(tuple(batch_peers.PEERS))
@COMMON
@click.option(
    "--items",
    type=click.IntRange(0),
    metavar="N",
    help=f"Small items that memory is measured with [default: {batch_suite.ITEMS:,}; with --quick "
    f"{batch_suite.QUICK_ITEMS:,}; 0 leaves it out].",
)
def batch(
    against: list[str],
    quick: bool,
    json_path: Path | None,
    plot_path: Path | None,
    database: str | None,
    slots: int,
    repeat: int | None,
    size: float,
    items: int | None,
) -> None:
    """pgflow batch beside a bare ProcessPoolExecutor.map; its first item, its memory."""
    options = given(slots, repeat, size, quick)
    if items is None:
        items = batch_suite.QUICK_ITEMS if quick else batch_suite.ITEMS
    with ending_on_signals():
        report = batch_suite.measure(database, options, against, items)
    finish(report, json_path, plot_path)


KILL_PEERS = {"pebble": contenders.PEBBLE, "celery": peers.CELERY_KILL}


@main.command()
@against_option(tuple(KILL_PEERS))
@with_options(quick_option, json_option, plot_option)
@click.option("--repeat", type=click.IntRange(1, 100), metavar="N", help="Rounds, instead of 3; with --quick, of 1.")
@click.option("--only", metavar="WORDS", default="", help="Only the cases in whose name this occurs.")
def kill(
    against: list[str], quick: bool, json_path: Path | None, plot_path: Path | None, repeat: int | None, only: str
) -> None:
    """How late after its deadline a hung task is dead, how soon a death is noticed. No database."""
    extent = cases.chosen(quick=quick, only=only, rounds=repeat)
    if not extent.cases:
        raise click.BadParameter(f"{only!r} is in the name of no case", param_hint="--only")
    facts = circumstances({"repeat": extent.rounds, "only": only, "quick": quick})
    missing = {name: why for name in against if name in peers.NAMES and (why := peers.missing(name))}
    present = [KILL_PEERS[name] for name in against if name not in missing]
    for name in against:
        if name in peers.NAMES and name not in missing:
            facts["versions"] |= peers.versions(name)
    figures = Figures()
    with ending_on_signals():
        remarks = kill_measure.measure(extent, [contenders.PGFLOW_POOL, *present], figures)
    finish(Report("kill", facts, figures.all(), missing, remarks), json_path, plot_path)


@main.command(name="heartbeats")
@no_peers_option
@with_options(quick_option, json_option, plot_option, database_option)
@click.option(
    "--seconds",
    type=click.IntRange(heartbeats.QUICK_SECONDS, 86_400),
    metavar="N",
    help=f"How long each load is watched [default: {heartbeats.SECONDS}; with --quick {heartbeats.QUICK_SECONDS}].",
)
def heartbeats_(
    quick: bool, json_path: Path | None, plot_path: Path | None, database: str | None, seconds: int | None
) -> None:
    """How regular heartbeats are while handlers hold the GIL in every slot."""
    seconds = seconds or (heartbeats.QUICK_SECONDS if quick else heartbeats.SECONDS)
    with ending_on_signals():
        report = suites.measure_heartbeats(database, seconds, quick=quick)
    finish(report, json_path, plot_path)


@main.command()
@click.argument("json_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@plot_option
def show(json_file: Path, plot_path: Path | None) -> None:
    """Print, and draw, what --json has written."""
    try:
        report = Report.read(json_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="JSON_FILE") from None
    click.echo(report.markdown())
    if plot_path is not None:
        from benchmarks.plots import draw

        draw(report, plot_path)
