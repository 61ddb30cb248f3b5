"""The command line: a command for each suite."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg

from benchmarks import peers
from pgflow.bench import heartbeats, scaling, suites
from pgflow.bench.contender import Contender
from pgflow.bench.facts import circumstances
from pgflow.bench.figures import Figures
from pgflow.bench.kill import cases, contenders
from pgflow.bench.kill import measure as kill_measure
from pgflow.bench.options import QUICK_REPEAT, REPEAT, Options
from pgflow.bench.report import Report
from pgflow.bench.site import ending_on_signals
from pgflow.cli.failures import ending_in_words
from pgflow.worker import available_cores

Command = TypeVar("Command", bound=Callable[..., Any])
ALL = "all"
PLOT_SUFFIXES = (".svg", ".png", ".pdf")


class _Group(click.Group):
    """Ends in words and with exit codes, as ``pgflow`` does."""

    def invoke(self, ctx: click.Context) -> Any:
        with ending_in_words():
            return super().invoke(ctx)


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure pgflow, and peers beside it. Prints one Markdown table."""


def _folder_exists(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.absolute().parent}")
    return path


def _plot_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in PLOT_SUFFIXES:
        raise click.BadParameter(f"{path} must end with one of {', '.join(PLOT_SUFFIXES)}")
    if path is not None and (why := peers.missing_packages(("matplotlib",))):
        raise click.BadParameter(f"{why}: pip install -e '.[bench]'")
    return _folder_exists(context, parameter, path)


def _file(name: str, help: str, callback: Callable[..., Path | None]) -> Callable[[Command], Command]:
    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.option(name, f"{name[2:]}_path", type=kind, callback=callback, metavar="FILE", help=help)


_json = _file("--json", "Write the figures, with every sample, to this file too.", _folder_exists)
_plot = _file("--plot", "Draw them into this file too (.svg, .png, .pdf).", _plot_file)
_quick = click.option("--quick", is_flag=True, help="A few of the loads; less than two minutes.")
_database = click.option(
    "--database", metavar="URL", help="Without it the usual order of choice, else the embedded server."
)
_slots = click.option(
    "--slots",
    type=click.IntRange(1, 1_000),
    default=available_cores(),
    show_default=True,
    metavar="N",
    help="Pool processes of pgflow, worker processes of peers.",
)
_repeat = click.option(
    "--repeat",
    type=click.IntRange(1, 1_000),
    metavar="N",
    help=f"Measurements of each load; the median counts [default: {REPEAT}; with --quick {QUICK_REPEAT}].",
)
_size = click.option(
    "--size",
    type=click.FloatRange(0.001, 1_000),
    default=1.0,
    show_default=True,
    metavar="X",
    help="X times as many tasks.",
)


def _peers(value: str, known: Sequence[str]) -> list[str]:
    names = list(known) if value == ALL else [name.strip() for name in value.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}, {ALL}", param_hint="--against")
    return list(dict.fromkeys(names))


def _against(known: Sequence[str]) -> Callable[[Command], Command]:
    def checked(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
        return _peers(value, known)

    return click.option(
        "--against", default="", callback=checked, metavar="PEER,...", help=f"Peers: {', '.join(known)}, or {ALL}."
    )


def _alone(_context: click.Context, _parameter: click.Parameter, value: str) -> None:
    if value:
        raise click.BadParameter("this suite measures pgflow alone; peers are in throughput, latency and kill")


_no_peers = click.option("--against", default="", callback=_alone, expose_value=False, hidden=True)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _options(slots: int, repeat: int | None, size: float, quick: bool) -> Options:
    return Options(slots=slots, repeat=repeat or (QUICK_REPEAT if quick else REPEAT), size=size, quick=quick)


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


@dataclass
class Beside:
    """The peers of a suite: started where they can be, named where they cannot."""

    names: Sequence[str]
    slots: int
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __call__(self, connection: psycopg.Connection[Any], stack: ExitStack) -> Sequence[Contender]:
        """The contenders, each with a database of its own, which is dropped with the stack."""
        present = []
        for name in self.names:
            if why := peers.missing(name):
                self.missing[name] = why
                click.echo(f"missing: {name}: {why}", err=True)
            else:
                present.append(peers.contender(name, connection, stack, self.slots))
                self.versions |= peers.versions(name)
        return present

    def completed(self, report: Report) -> Report:
        """The report with what there is to say of them."""
        report.facts["versions"] |= self.versions
        report.missing.update(self.missing)
        return report


_COMMON = _with(_quick, _json, _plot, _database, _slots, _repeat, _size)


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
@_against(peers.NAMES)
@_COMMON
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
    options = _options(slots, repeat, size, quick)
    finish(_measure_beside(suites.measure_throughput, against, database, options), json_path, plot_path)


@main.command()
@_against(peers.WITH_LATENCY)
@_COMMON
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
    options = _options(slots, repeat, size, quick)
    finish(_measure_beside(suites.measure_latency, against, database, options), json_path, plot_path)


@main.command(name="scaling")
@_no_peers
@_COMMON
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
    options = _options(slots, repeat, size, quick)
    with ending_on_signals():
        report = suites.measure_scaling(database, options, max_rows=max_rows, max_map=max_map)
    finish(report, json_path, plot_path)


@main.command()
@_no_peers
@_COMMON
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
        report = suites.measure_overhead(database, _options(slots, repeat, size, quick))
    finish(report, json_path, plot_path)


@main.command()
@_no_peers
@_with(_quick, _json, _plot, _database, _repeat)
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
    options = _options(1, repeat, 1.0, quick)
    with ending_on_signals():
        report = suites.measure_sql(database, options, rows=rows, batch=batch, element_bytes=element_bytes)
    finish(report, json_path, plot_path)


KILL_PEERS = {"pebble": contenders.PEBBLE, "celery": peers.CELERY_KILL}


@main.command()
@_against(tuple(KILL_PEERS))
@_with(_quick, _json, _plot)
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
@_no_peers
@_with(_quick, _json, _plot, _database)
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
@_plot
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
