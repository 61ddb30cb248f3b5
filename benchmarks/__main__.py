"""``python -m benchmarks SUITE``: measure, print a Markdown table; with ``--against``, peers do the same work in
turn."""

from __future__ import annotations

from benchmarks.commands import main

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
