"""One plot for each suite, drawn from its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from pgflow.bench.figures import Figure
from pgflow.bench.report import Report

mpl.use("Agg")
from matplotlib import pyplot  # after the choice of what draws

BAR_INCHES, SPACE_INCHES, WIDTH_INCHES, PANEL_INCHES = 0.16, 0.1, 10.0, 3.2
WIDE = 20
"""A scale whose ends are so many times apart is logarithmic."""
DRAWN = {
    "throughput": ("tasks/s", "share of the ideal, %"),
    "quick": ("tasks/s", "share of the ideal, %"),
    "sql": ("claim + complete, us per task",),
}
"""The figures that are drawn, where a suite has more."""


def draw(report: Report, path: Path) -> None:
    """Draw the medians, with lines from the lowest to the highest. Raises ValueError where nothing can be drawn."""
    figures = [figure for figure in report.figures if figure.samples and math.isfinite(figure.median)]
    if not figures:
        raise ValueError(f"the report of {report.suite} has no figures")
    drawing = _lines(figures) if any(figure.at is not None for figure in figures) else _bars(report.suite, figures)
    drawing.suptitle(f"{report.suite}; {report.facts['machine']}", fontsize=9)
    drawing.savefig(path)
    pyplot.close(drawing)


def _bars(suite: str, figures: Sequence[Figure]) -> Any:
    """A panel for each quantity; a group of bars for each load, in it a bar for each that was measured."""
    names = DRAWN.get(suite) or tuple(dict.fromkeys(figure.name for figure in figures))
    panels = [(name, [figure for figure in figures if figure.name == name]) for name in names]
    panels = [(name, shown) for name, shown in panels if shown]
    heights = [
        BAR_INCHES * len(shown) + SPACE_INCHES * len({figure.load for figure in shown}) + 0.7 for _, shown in panels
    ]
    drawing, axes = pyplot.subplots(
        len(panels),
        figsize=(WIDTH_INCHES, sum(heights) + 0.5),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    contenders = list(dict.fromkeys(figure.by for figure in figures))
    for axis, (name, shown) in zip(axes[:, 0], panels, strict=True):
        _bar_panel(axis, name, shown, contenders)
    if len(contenders) > 1:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=len(contenders), fontsize=7)
    return drawing


def _bar_panel(axis: Any, name: str, figures: Sequence[Figure], contenders: Sequence[str]) -> None:
    position, ticks = 0.0, {}
    colours = {by: f"C{number}" for number, by in enumerate(contenders)}
    labelled: set[str] = set()
    for load in dict.fromkeys(figure.load for figure in figures):
        group = [figure for figure in figures if figure.load == load]
        ticks[load] = position + (len(group) - 1) * BAR_INCHES / 2
        for figure in group:
            low, high = figure.median - min(figure.samples), _highest(figure) - figure.median
            label = None if figure.by in labelled else figure.by
            labelled.add(figure.by)
            axis.barh(
                position,
                figure.median,
                height=BAR_INCHES * 0.9,
                xerr=[[low], [high]],
                color=colours[figure.by],
                label=label,
                error_kw={"linewidth": 0.7},
            )
            position += BAR_INCHES
        position += SPACE_INCHES
    axis.set_yticks(list(ticks.values()), list(ticks), fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(name, fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    medians = [figure.median for figure in figures]
    if min(medians) > 0 and max(medians) > WIDE * min(medians):
        axis.set_xscale("log")


def _highest(figure: Figure) -> float:
    return max(sample for sample in figure.samples if math.isfinite(sample))


def _lines(figures: Sequence[Figure]) -> Any:
    """A panel for each scale and quantity: what changes with slots, rows, elements, dependents."""
    panels: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        if figure.at is not None:
            panels.setdefault((_scale(figure), figure.name), []).append(figure)
    rows = math.ceil(len(panels) / 2)
    drawing, axes = pyplot.subplots(
        rows, 2, figsize=(WIDTH_INCHES, PANEL_INCHES * rows), squeeze=False, layout="constrained"
    )
    for axis, ((scale, name), shown) in zip(axes.flat, panels.items(), strict=False):
        shown.sort(key=lambda figure: figure.at or 0)
        xs = [figure.at or 0 for figure in shown]
        ys = [figure.median for figure in shown]
        spread = [
            [figure.median - min(figure.samples) for figure in shown],
            [_highest(figure) - figure.median for figure in shown],
        ]
        axis.errorbar(xs, ys, yerr=spread, marker="o", markersize=3, linewidth=1, capsize=2)
        if max(xs) > WIDE * max(1, min(xs)):
            axis.set_xscale("symlog" if min(xs) == 0 else "log")
        axis.margins(y=0.1)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(scale, fontsize=8)
        axis.set_ylabel(name, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in list(axes.flat)[len(panels) :]:
        axis.remove()
    return drawing


def _scale(figure: Figure) -> str:
    """The figure's load without its place on the scale."""
    return figure.load.replace(f"{figure.at:,.0f} ", "", 1).replace(f" of {figure.at:,.0f}", "", 1)
