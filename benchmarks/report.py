"""What the measurements share: options, the machine in words, figures as text, Markdown tables."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from pgflow.worker import available_cores

Command = TypeVar("Command", bound=Callable[..., Any])


def machine() -> str:
    """The machine in words."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    return f"{available_cores()} cores ({model}), {platform.system()} {platform.release()}"


def circumstances(options: dict[str, Any]) -> dict[str, Any]:
    """When, where and how is measured, as JSON values; the load average is what else the machine does."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
        "options": options,
    }


def _folder_exists(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.absolute().parent}")
    return path


def json_option(command: Command) -> Command:
    """Add ``--json FILE`` to a command, as ``json_path``."""
    return click.option(
        "--json",
        "json_path",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=_folder_exists,
        metavar="FILE",
        help="Write the figures, with every sample, to this file too.",
    )(command)


def print_table(header: list[str], lines: list[list[str]]) -> None:
    """Print a Markdown table and an empty line."""
    for cells in (header, ["---"] * len(header), *lines):
        click.echo(f"| {' | '.join(cells)} |")
    click.echo()


def rounded(value: float) -> str:
    """Three significant digits, or all before the point."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that so large a share of them does not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
