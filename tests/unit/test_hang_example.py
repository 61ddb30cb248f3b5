"""The hang example: what is stuck stays stuck, and its neighbour is done before the kill."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgflow.reference import load_flow

EXAMPLE = Path(__file__).parents[2] / "examples" / "hang.py"
STUCK = f"""
from pgflow.reference import load_flow
stuck = load_flow({str(EXAMPLE)!r}).handler("stuck")
print("started", flush=True)
stuck(None)
"""


def test_stuck_is_still_at_it_when_its_timeout_has_passed() -> None:
    seconds = load_flow(str(EXAMPLE)).timeout_of("stuck")
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=seconds)
        finally:
            process.kill()


def test_busy_is_done_before_its_neighbour_is_killed() -> None:
    flow = load_flow(str(EXAMPLE))
    killed_after = flow.timeout_of("stuck")
    assert killed_after is not None
    begin = time.monotonic()
    assert flow.handler("busy")(None) > 100
    assert time.monotonic() - begin < killed_after


def test_one_failure_fails_the_run() -> None:
    flow = load_flow(str(EXAMPLE))
    assert flow.options["max_attempts"] == 1
    assert not any({"max_attempts", "when_exhausted"} & step.options.keys() for step in flow.steps)
