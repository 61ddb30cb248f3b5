"""What a handler leaves in its process does not meet the next task."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pgflow.outcome import Completed, TimedOut
from tests.fault.test_pool import WAIT_SECONDS, RunningPool
from tests.flows import untidy

TIMEOUT = 10


@pytest.fixture(scope="module")
def running() -> Iterator[RunningPool]:
    pool = RunningPool(slots=1)
    yield pool
    pool.pool.stop("the test is over")
    assert pool.pool.wait_until_ended(WAIT_SECONDS)


def answer(running: RunningPool, step: str, input: object = None) -> Any:
    """The task's output; it must complete."""
    outcome = running.outcome(step, input, TIMEOUT)
    assert isinstance(outcome, Completed), outcome
    return json.loads(outcome.output)


@pytest.mark.parametrize("what", untidy.PUT_BACK)
def test_it_is_put_back_in_the_same_process(running: RunningPool, what: str) -> None:
    pid, before = answer(running, "tell_state")
    assert answer(running, "leave", what) == pid
    assert answer(running, "tell_state") == [pid, before]


@pytest.mark.parametrize("what", untidy.REPLACED)
def test_the_process_is_replaced_and_the_reason_told_once(
    running: RunningPool, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, _ = untidy.REPLACED[what]
    running.pool._untidy._known.clear()
    caplog.set_level(logging.WARNING)
    _, before = answer(running, "tell_state")
    pids = {answer(running, "leave", what), answer(running, "leave", what)}
    pid, after = answer(running, "tell_state")
    assert len(pids | {pid}) == 3
    assert after == before
    (told,) = [record.getMessage() for record in caplog.records if record.name == "pgflow.worker.untidy"]
    assert told.startswith(f"hostile/leave left {reason}")
    assert "to avoid that" in told


def test_a_hang_after_a_handler_that_switched_stacks_off_has_its_stack(running: RunningPool) -> None:
    answer(running, "leave", "no_stacks")
    outcome = running.outcome("hang_in_regex")
    assert isinstance(outcome, TimedOut)
    assert "in hang_in_regex" in outcome.error
