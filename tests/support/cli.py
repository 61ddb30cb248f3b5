"""``pgflow`` in a process of its own, as people call it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

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


def hear(process: subprocess.Popen[str], words: str) -> None:
    """Read the process's log until it says something."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}")


def patient_flow(folder: Path, more: str = "") -> str:
    """A flow whose step ``wait`` notes that it ``began`` and ends when there is a file ``go``; its reference."""
    module = folder / "patient.py"
    module.write_text(
        "import pathlib, time\nfrom pgflow import Flow\nflow = Flow('patient', timeout=60)\n"
        "@flow.step\ndef wait(input):\n"
        f"    pathlib.Path({str(folder)!r}, 'began').touch()\n"
        f"    while not pathlib.Path({str(folder)!r}, 'go').exists(): time.sleep(0.01)\n"
        f"    print('noise ' * 10_000)\n    return 'went'\n{more}"
    )
    return f"{module}:flow"


def slow_import(folder: Path) -> str:
    """A flow whose import notes that it ``began`` and does not end; its reference."""
    module = folder / "slow_import.py"
    module.write_text(
        "import pathlib, time\nfrom pgflow import Flow\nflow = Flow('slow_import')\n"
        f"pathlib.Path({str(folder)!r}, 'began').touch()\ntime.sleep(1000)\n"
    )
    return f"{module}:flow"


def environment(url: str | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with one database in it at most, and nothing about colours."""
    unwanted = ("DATABASE_URL", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k not in unwanted}
    return kept | ({"PGFLOW_DATABASE_URL": url} if url is not None else {}) | dict(more or {})
