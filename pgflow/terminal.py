"""What every display keeps to, on a terminal and elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 10.0
"""How often a line tells where nobody looks at a terminal."""
ECHO_COLUMNS = 2
"""Left free on the right: the terminal's echo of ^C would push full rows down a line, and the uppermost would stay."""
OTHER_LINES = 2
"""Of a terminal's height, left to others."""


def is_watched(console: Console) -> bool:
    """Whether somebody looks at standard error, on a terminal that can be written over."""
    # is_interactive alone: FORCE_COLOR makes a terminal of everything.
    return console.is_interactive and sys.stderr.isatty()


def shortened(text: str, width: int) -> str:
    """The text in at most so many cells of a terminal, with a sign where something is missing."""
    if cell_count(text) <= width:
        return text
    from rich.cells import set_cell_size  # takes time to import, and most text fits

    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""


def cell_count(text: str) -> int:
    """How many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
