"""Tasks per second, end to end: from the first start to the last completion, with claim, pool process, collector, and
commits that are on the disk."""

from __future__ import annotations

from collections.abc import Sequence

import click

from pgflow.bench.contender import FLOWS, Contender, ContenderError, in_turn
from pgflow.bench.figures import Figures
from pgflow.bench.loads import FULL, QUICK, Load
from pgflow.bench.options import Options
from pgflow.worker import available_cores

RATE, SHARE = "tasks/s", "share of the ideal"
SLUGS = [flow.slug for flow in FLOWS.values()]


def measure(
    contenders: Sequence[Contender], options: Options, figures: Figures, loads: Sequence[Load] = ()
) -> dict[str, str]:
    """All loads, or those given, by everybody; who failed, and why. Who has failed once is left out."""
    failed: dict[str, str] = {}
    for number, contender in in_turn(contenders, options.repeat):
        if contender.name in failed:
            continue
        click.echo(f"measurement {number} of {options.repeat}, {contender.name}", err=True)
        try:
            with contender.running() as running:
                for load in loads or (QUICK if options.quick else FULL):
                    count = load.count(options.slots, options.size)
                    add(figures, contender.name, load, count, running.run(load, count), options.slots)
        except ContenderError as error:
            failed[contender.name] = f"failed: {error}"
    return failed


def add(figures: Figures, by: str, load: Load, count: int, seconds: float, slots: int) -> None:
    """Add a sample of a load's rate, and of its share of the ideal if its tasks burn CPU time."""
    figures.add(load.name, RATE, "", count / seconds, by=by)
    if load.cpu:
        figures.add(load.name, SHARE, "%", 100 * share_of_ideal(count, load.cpu, slots, seconds), by=by)


def share_of_ideal(count: int, cpu: float, slots: int, seconds: float) -> float:
    """The seconds that the CPU time of the tasks takes when the cores, or slots where these are fewer, do nothing else,
    as a share of those that passed."""
    return count * cpu / min(slots, available_cores()) / seconds
