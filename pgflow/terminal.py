"""What every progress display keeps to, on a terminal and elsewhere."""

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
