"""Steps that record failures: a task without attempts left completes with its error."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.sql import Core


def recording(core: Core, *steps: str, recorded: str = "m", max_attempts: int = 1) -> None:
    core.flow("f", *steps, max_attempts=max_attempts)
    core.rows("SELECT pgflow.record_failures('f', %s)", recorded)


def envelope(message: str, kind: str = "failed", attempts: int = 1) -> dict[str, Any]:
    return {"$error": {"message": message, "kind": kind, "attempts": attempts}}


def test_a_bad_element_does_not_end_the_map(core: Core) -> None:
    recording(core, "m*", "end <- m")
    run_id = core.start("f", [0, 1, 2])
    first, bad, last = core.claim("f")
    assert core.fail([bad], ["no"]) == ["recorded"]
    assert core.complete([first, last], ["a", "c"]) == ["completed", "completed"]
    (end,) = core.claim("f")
    assert end.input == {"m": ["a", envelope("no"), "c"]}
    core.complete([end], [1])
    assert core.run(run_id)["status"] == "completed"
    (row,) = [task for task in core.tasks(run_id) if task["error_message"]]
    assert (row["status"], row["error_message"], row["output"]) == ("completed", "no", envelope("no"))
    assert core.queue("f") == []
    assert core.value("SELECT count(*) FROM pgflow.task_attempts WHERE outcome = 'failed' AND step_slug = 'm'") == 1


def test_it_is_recorded_after_the_last_attempt_or_when_there_shall_be_no_other(core: Core) -> None:
    recording(core, "m*", max_attempts=2)
    run_id = core.start("f", [0, 1])
    assert core.fail(core.claim("f"), ["first", "hopeless"], [None, -1]) == ["retried", "recorded"]
    assert core.fail(core.claim("f"), ["second"]) == ["recorded"]
    assert core.run(run_id)["output"] == {"m": [envelope("second", attempts=2), envelope("hopeless")]}


def test_the_kind_is_the_outcome(core: Core) -> None:
    recording(core, "m*")
    run_id = core.start("f", [0])
    core.claim("f")
    core.rows(
        "SELECT pgflow.fail_tasks(ARRAY[%s]::uuid[], ARRAY['m'], ARRAY[0], ARRAY['late'], "
        "outcomes => ARRAY['timed_out'])",
        run_id,
    )
    assert core.run(run_id)["output"] == {"m": [envelope("late", "timed_out")]}
    assert core.value("SELECT outcome FROM pgflow.task_attempts") == "timed_out"


def test_the_contracts_call_records_too(core: Core) -> None:
    recording(core, "m*")
    run_id = core.start("f", [0])
    core.claim("f")
    (row,) = core.rows("SELECT * FROM pgflow.fail_task(%s, 'm', 0, 'no')", run_id)
    assert (row["status"], core.run(run_id)["output"]) == ("completed", {"m": [envelope("no")]})


def test_recorded_and_other_failures_of_a_batch_are_told_apart(core: Core) -> None:
    recording(core, "m*", "s")
    run_ids = [core.start("f", [0]), core.start("f", [0])]
    tasks = sorted(core.claim("f"), key=lambda task: (run_ids.index(task.run_id), task.step_slug))
    assert core.fail(tasks[:3], ["a", "b", "c"]) == ["recorded", "failed", "recorded"]
    assert [core.run(run_id)["status"] for run_id in run_ids] == ["failed", "started"]
    core.complete(tasks[3:], [1])
    assert core.run(run_ids[1])["output"] == {"m": [envelope("c")], "s": 1}


def test_an_error_that_should_have_been_a_maps_elements_fails_the_run_once(core: Core) -> None:
    recording(core, "s", "m* <- s", recorded="s")
    run_id = core.start("f", 1)
    assert core.fail(core.claim("f"), ["no"]) == ["failed"]
    assert core.run(run_id)["status"] == "failed"
    assert core.state(run_id, "s")["error_message"] == (
        "[TYPE_VIOLATION] Map step m expects array input but dependency s produced object"
    )
    row = core.row("SELECT outcome, error_message FROM pgflow.task_attempts")
    assert row == {"outcome": "failed", "error_message": "no"}


def test_it_is_switched_off_and_goes_with_the_flow(core: Core) -> None:
    recording(core, "m*")
    core.rows("SELECT pgflow.record_failures('f', 'm')")  # twice is no error
    core.rows("SELECT pgflow.record_failures('f', 'm', false)")
    run_id = core.start("f", [0])
    assert core.fail(core.claim("f"), ["no"]) == ["failed"]
    assert core.run(run_id)["status"] == "failed"
    core.rows("SELECT pgflow.record_failures('f', 'm')")
    core.rows("SELECT pgflow.delete_flow_and_data('f')")
    assert core.rows("SELECT * FROM pgflow.recording_steps") == []


def test_a_step_that_does_not_exist_is_refused(core: Core) -> None:
    core.flow("f", "m*")
    with pytest.raises(Exception, match="recording_steps_flow_slug_step_slug_fkey"):
        core.rows("SELECT pgflow.record_failures('f', 'nothing')")
