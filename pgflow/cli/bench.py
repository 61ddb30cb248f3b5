"""``pgflow bench``: how fast pgflow is here."""

from __future__ import annotations

from pathlib import Path

import click

from pgflow.cli.options import database_option, slots_option

MEASUREMENTS = 3


def folder_exists(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that could not be written when all has been measured."""
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.absolute().parent}")
    return path


json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=folder_exists,
    metavar="FILE",
    help="Write the figures, with every sample, to this file too.",
)
size_option = click.option(
    "--size",
    type=click.FloatRange(0.001, 1_000),
    default=1.0,
    show_default=True,
    metavar="X",
    help="X times as many tasks.",
)


@click.command()
@database_option
@slots_option
@click.option(
    "--repeat",
    type=click.IntRange(1, 1_000),
    default=MEASUREMENTS,
    show_default=True,
    metavar="N",
    help="Measurements of each load; the median counts.",
)
@size_option
@json_option
def bench(database: str | None, slots: int | None, repeat: int, size: float, json_path: Path | None) -> None:
    """Measure throughput and latency in the database, with workers on this machine; about a minute. Prints a Markdown
    table. Its flows are called bench_..., and are deleted at the end with all their runs."""
    from pgflow.bench.options import Options
    from pgflow.bench.site import ending_on_signals
    from pgflow.bench.suites import QUICK_SLUGS, measure_quickly
    from pgflow.worker import available_cores

    options = Options(slots=slots or available_cores(), repeat=repeat, size=size, quick=True)
    click.echo(
        f"Measuring {repeat} times with {options.slots} slots. This defines the flows {', '.join(QUICK_SLUGS)}, starts "
        "runs of them and workers on this machine, and deletes all that at the end. Where the schema pgflow is missing "
        "it is installed, and stays.",
        err=True,
    )
    with ending_on_signals():
        report = measure_quickly(database, options)
    click.echo(report.markdown())
    if json_path is not None:
        report.write(json_path)
