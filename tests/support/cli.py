"""``pgflow`` in a process of its own, as people call it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

PGFLOW = (sys.executable, "-m", "pgflow")
TIMEOUT_SECONDS = 60

Result = subprocess.CompletedProcess[str]


def call(
    *arguments: str, url: str | None = None, more: Mapping[str, str] | None = None, input: str | None = None
) -> Result:
    """Run ``pgflow`` to its end; ``more`` goes into its environment, ``input`` to its standard input."""
    return subprocess.run(
        [*PGFLOW, *arguments],
        input=input or "",
        capture_output=True,
        text=True,
        env=environment(url, more),
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@contextmanager
def begun(*arguments: str, url: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """``pgflow`` while it runs, killed at the end of the block; started by the command ``before``, if any."""
    process = subprocess.Popen(
        [*before, *PGFLOW, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(url),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def environment(url: str | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with one database in it at most, and nothing about colours."""
    unwanted = ("DATABASE_URL", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k not in unwanted}
    return kept | ({"PGFLOW_DATABASE_URL": url} if url is not None else {}) | dict(more or {})
