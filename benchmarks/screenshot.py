"""The progress display of a batch that really runs, as an SVG for the README.

    python -m benchmarks.screenshot docs/images/batch.svg batch examples/batch_words.py:words --input files.txt ...

What follows the picture's name is a command of pgflow, which runs in this process. The picture is that of the moment
when nine tenths of the items were done.
"""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

import pgflow.batch.progress
from pgflow.batch.progress import Gauge, Silence
from pgflow.batch.snapshot import Snapshot
from pgflow.batch.view import View
from pgflow.cli import main as pgflow_main

COLUMNS, LINES = 110, 20
MOMENT = 0.9


class Camera(Silence):
    """A display that shows nothing and keeps a picture of the moment."""

    def __init__(self, title: str) -> None:
        super().__init__(Console(stderr=True))
        self._title = title
        self._view, self._gauge = View(), Gauge()
        self.svg: str | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Take the picture, unless the moment has passed."""
        rate, eta = self._gauge.read(snapshot)
        if self.svg is not None and (not snapshot.total or snapshot.finished > MOMENT * snapshot.total):
            return
        paper = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, color_system="truecolor")
        paper.print(Text.assemble(("$ ", "dim"), self._title))
        paper.print(self._view.draw(snapshot, rate, eta, columns=COLUMNS, lines=LINES))
        self.svg = paper.export_svg(title="pgflow batch", unique_id="pgflow-batch")


def main(path: Path, command: list[str]) -> int:
    """Run the command and write the picture; the exit code."""
    camera = Camera(f"pgflow {shlex.join(command)}")
    pgflow.batch.progress.display_on = lambda *_, **__: camera
    try:
        pgflow_main(command)
    except SystemExit as end:
        code = end.code
    if camera.svg is None:
        raise SystemExit("the command has shown no progress")
    path.write_text(camera.svg, encoding="utf-8")
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
