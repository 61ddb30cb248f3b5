"""Runs from start to end: start_flow, claim_tasks, complete_tasks, fail_tasks, release_tasks."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from tests.support.sql import Core, Row


def test_a_run_goes_from_its_input_to_the_outputs_of_its_leaves(core: Core) -> None:
    core.flow("f", "list", "square* <- list", "total <- square list", "aside")
    run_id = core.start("f", {"n": 3})
    first = core.claim("f")
    assert [(t.step_slug, t.kind, t.input) for t in first] == [
        ("aside", "root", {"n": 3}),
        ("list", "root", {"n": 3}),
    ]
    assert core.complete(first, ["beside", [1, 2, 3]]) == ["completed", "completed"]
    squares = core.claim("f")
    assert [(t.kind, t.task_index, t.input) for t in squares] == [("map", 0, 1), ("map", 1, 2), ("map", 2, 3)]
    core.complete(squares, [t.input**2 for t in squares])
    (total,) = core.claim("f")
    assert (total.kind, total.input) == ("dependent", {"list": [1, 2, 3], "square": [1, 4, 9]})
    core.complete([total], [14])
    run = core.run(run_id)
    assert (run["status"], run["output"], run["remaining_steps"]) == (
        "completed",
        {"total": 14, "aside": "beside"},
        0,
    )
    assert core.queue("f") == []
    assert core.archived("f") == 6


def test_a_whole_life_fits_in_one_transaction(core: Core) -> None:
    with core.connection.transaction():
        core.flow("f", "a", "m* <- a")
        run_id = core.start("f", {})
        core.complete(core.claim("f"), [[1, 2]])
        core.complete(core.claim("f"), ["x", "y"])
        assert core.run(run_id)["output"] == {"m": ["x", "y"]}


@pytest.mark.parametrize("output", [0, False, "", None, [], {}])
def test_falsy_outputs_are_kept(core: Core, output: object) -> None:
    core.flow("f", "a", "b <- a")
    core.start("f", output)
    (a,) = core.claim("f")
    assert a.input == output
    core.complete([a], [output])
    (b,) = core.claim("f")
    assert b.input == {"a": output}


def test_a_root_map_maps_the_runs_input(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", ["a", None, {"b": 1}])
    assert [t.input for t in core.claim("f")] == ["a", None, {"b": 1}]


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ("NULL", "Flow f has root map steps but input is NULL"),
        ("'null'", r"Flow f has root map steps but input is not an array \(got null\)"),
        ("'{}'", r"Flow f has root map steps but input is not an array \(got object\)"),
    ],
)
def test_a_root_map_needs_an_array(core: Core, input: str, words: str) -> None:
    core.flow("f", "m*", "a")
    with pytest.raises(psycopg.errors.RaiseException, match=words):
        core.rows(f"SELECT pgflow.start_flow('f', {input}::jsonb)")


def test_a_map_of_an_empty_array_completes_at_once_and_so_do_maps_behind_it(core: Core) -> None:
    core.flow("f", "m*", "n* <- m", "o <- n")
    run_id = core.start("f", [])
    (task,) = core.claim("f")
    assert (task.step_slug, task.input) == ("o", {"n": []})
    assert core.state(run_id, "n")["output"] == []


@pytest.mark.parametrize(("maps", "works"), [(49, True), (51, False)])
def test_chains_of_maps_without_elements_have_a_limit(core: Core, maps: int, works: bool) -> None:
    core.flow("f", "m0*", *(f"m{i}* <- m{i - 1}" for i in range(1, maps)))
    if works:
        assert core.run(core.start("f", []))["status"] == "completed"
    else:
        with pytest.raises(psycopg.errors.RaiseException, match="Cascade loop exceeded safety limit of 50 iterations"):
            core.start("f", [])


def test_a_flow_without_steps_completes_at_once(core: Core) -> None:
    core.flow("f")
    run = core.run(core.start("f", 1))
    assert (run["status"], run["output"]) == ("completed", None)


def test_a_failed_attempt_goes_back_to_the_queue_after_its_delay(core: Core) -> None:
    core.flow("f", "a", max_attempts=3, base_delay=10)
    run_id = core.start("f", 1)
    for attempt, delay in ((1, 20), (2, 40)):
        (task,) = core.claim("f")
        assert task.attempt == attempt
        assert core.fail([task], [f"error {attempt}"]) == ["retried"]
        (message,) = core.queue("f")
        assert round(message["visible_in"]) == delay
        core.rows("SELECT pgmq.set_vt('f', %s, 0)", message["msg_id"])
    (task,) = core.claim("f")
    assert core.fail([task], ["the end"]) == ["failed"]
    assert (core.run(run_id)["status"], core.state(run_id, "a")["error_message"]) == ("failed", "the end")
    assert core.queue("f") == []


def test_an_attempt_may_bring_its_own_delay_or_be_the_last(core: Core) -> None:
    core.flow("f", "m*", max_attempts=2, base_delay=10)
    core.start("f", [0, 1, 2])
    tasks = core.claim("f")
    assert core.fail(tasks, ["usual", "own", "at once"], [None, 7, 0]) == ["retried"] * 3
    assert [round(message["visible_in"]) for message in core.queue("f")] == [20, 7, 0]
    (again,) = core.claim("f")
    assert core.fail([again], ["spent all the same"], [7]) == ["failed"]
    run_id = core.start("f", [0])
    assert core.fail(core.claim("f"), ["hopeless"], [-1]) == ["failed"]
    assert core.state(run_id, "m")["error_message"] == "hopeless"


def test_an_exhausted_task_fails_its_run_and_leaves_the_other_tasks_rows_alone(core: Core) -> None:
    core.flow("f", "m*", "b")
    run_id = core.start("f", [1, 2, 3])
    b, first = core.claim("f", 2)
    assert core.fail([first], ["bad"]) == ["failed"]
    assert [(t["step_slug"], t["status"]) for t in core.tasks(run_id)] == [
        ("b", "started"), ("m", "failed"), ("m", "queued"), ("m", "queued"),
    ]  # fmt: skip
    assert (core.run(run_id)["status"], core.state(run_id, "m")["status"]) == ("failed", "failed")
    assert (core.queue("f"), core.claim("f")) == ([], [])
    # The other started task's end comes too late.
    assert core.complete([b], [1]) == ["over"]
    assert core.tasks(run_id)[0]["status"] == "started"
    assert core.fail([b], ["also bad"]) == ["over"]
    assert core.tasks(run_id)[0]["status"] == "failed"


def test_delays_are_clamped_to_what_an_int_holds(core: Core) -> None:
    assert core.value("SELECT pgflow.calculate_retry_delay(5, 2)") == 20
    assert core.value("SELECT pgflow.calculate_retry_delay(5, 1000)") == 2147483647
    assert core.value("SELECT pgflow.calculate_retry_delay(NULL, 1)") is None
    assert core.value("SELECT pgflow.calculate_retry_delay(1, NULL)") is None


def test_a_result_of_an_old_attempt_changes_nothing(core: Core) -> None:
    core.flow("f", "a", max_attempts=3)
    run_id = core.start("f", 1)
    (old,) = core.claim("f")
    core.fail([old], ["lost"])
    (new,) = core.claim("f")
    before = (core.tasks(run_id), core.queue("f")[0]["msg_id"])
    assert core.complete([old], ["late"]) == ["stale"]
    assert core.fail([old], ["late"]) == ["stale"]
    assert core.release([old]) == ["stale"]
    assert (core.tasks(run_id), core.queue("f")[0]["msg_id"]) == before
    assert round(core.queue("f")[0]["visible_in"]) == 62
    assert core.complete([new], ["good"]) == ["completed"]
    assert core.complete([new], ["again"]) == ["over"]
    assert core.run(run_id)["output"] == {"a": "good"}


def test_a_late_fail_task_does_not_delay_the_requeued_task(core: Core) -> None:
    core.flow("f", "a", max_attempts=3, base_delay=1)
    run_id = core.start("f", 1)
    core.fail(core.claim("f"), ["once"])
    (before,) = core.rows("SELECT vt FROM pgmq.q_f")
    core.rows("SELECT pgflow.fail_task(%s, 'a', 0, 'late')", run_id)
    assert core.rows("SELECT vt FROM pgmq.q_f") == [before]


def test_a_task_twice_in_a_batch_counts_once(core: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    a, b = core.claim("f")
    assert core.complete([a, a, b], ["first", "second", "b"]) == ["completed", "stale", "completed"]
    assert core.run(run_id)["output"] == {"m": ["first", "b"]}


def test_unknown_tasks_are_told_apart(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    stranger = type(task)(**{**vars(task), "run_id": uuid4()})
    assert core.complete([stranger, task], [1, 2]) == ["unknown", "completed"]
    assert core.fail([stranger], ["x"]) == ["unknown"]
    assert core.rows("SELECT * FROM pgflow.complete_task(%s, 'nobody', 0, '1')", run_id) == []


BATCHES = {
    "complete_tasks": {"outputs": "jsonb", "attempts": "int", "worker_ids": "uuid", "message_ids": "bigint", "evidence": "jsonb"},
    "fail_tasks": {
        "error_messages": "text", "attempts": "int", "retry_delays": "int", "outcomes": "text", "worker_ids": "uuid",
        "message_ids": "bigint", "evidence": "jsonb",
    },
    "release_tasks": {"attempts": "int", "worker_ids": "uuid", "message_ids": "bigint"},
    "requeue_tasks": {"reasons": "text", "attempts": "int", "worker_ids": "uuid", "message_ids": "bigint"},
    "renew_tasks": {"attempts": "int", "worker_ids": "uuid", "message_ids": "bigint", "visible_seconds": "int"},
}  # fmt: skip
"""The arrays that a batch is given beside the tasks' keys."""
KEYS = {"run_ids": "uuid", "step_slugs": "text", "task_indexes": "int"}
NEEDED = {*KEYS, "outputs", "error_messages", "reasons"}


def call_batch(core: Core, function: str, lengths: dict[str, int | None]) -> list[Row]:
    """Call a function with arrays of NULLs: two elements each, but for those of which ``lengths`` says something else."""
    types = KEYS | BATCHES[function]
    arguments = [
        f"{name} => array_fill(NULL::{type}, ARRAY[%s])" if lengths.get(name, 2) is not None else f"{name} => NULL"
        for name, type in types.items()
    ]
    given = [length for name in types if (length := lengths.get(name, 2)) is not None]
    return core.rows(f"SELECT * FROM pgflow.{function}({', '.join(arguments)})", *given)


@pytest.mark.parametrize(
    ("function", "argument"),
    [(function, argument) for function, others in BATCHES.items() for argument in [*list(KEYS)[1:], *others]],
)
def test_a_batch_whose_arrays_differ_in_length_is_refused(core: Core, function: str, argument: str) -> None:
    assert len(call_batch(core, function, {})) == 2
    for length in (1, 3):
        words = rf"{function}\(\): 2 run_ids, but {length} {argument}"
        with pytest.raises(psycopg.errors.RaiseException, match=words):
            call_batch(core, function, {argument: length})
    if argument in NEEDED:
        with pytest.raises(psycopg.errors.RaiseException, match=rf"2 run_ids, but no {argument}"):
            call_batch(core, function, {argument: None})
    else:
        assert len(call_batch(core, function, {argument: None})) == 2


@pytest.mark.parametrize("function", BATCHES)
@pytest.mark.parametrize("length", [0, None])
def test_a_batch_of_nothing_does_nothing(core: Core, function: str, length: int | None) -> None:
    assert call_batch(core, function, dict.fromkeys(KEYS | BATCHES[function], length)) == []
    assert call_batch(core, function, {**dict.fromkeys(KEYS | BATCHES[function], 0), "run_ids": length}) == []


def test_complete_task_and_fail_task_return_the_row_as_it_is_afterwards(core: Core) -> None:
    core.flow("f", "a", "b", max_attempts=2)
    run_id = core.start("f", 1)
    queued = core.row("SELECT * FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id)
    assert (queued["status"], len(core.queue("f"))) == ("queued", 2)  # a queued task's message stays
    core.claim("f")
    assert core.row("SELECT * FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id)["status"] == "completed"
    failed = core.row("SELECT * FROM pgflow.fail_task(%s, 'b', 0, 'why')", run_id)
    assert (failed["status"], failed["error_message"], failed["started_at"]) == ("queued", "why", None)


@pytest.mark.parametrize(("output", "type"), [("{}", "object"), ("null", "null"), ("1", "number")])
def test_an_output_that_a_map_cannot_take_fails_the_run(core: Core, output: str, type: str) -> None:
    core.flow("f", "a", "m* <- a", "aside", max_attempts=5)
    run_id = core.start("f", 1)
    core.claim("f")
    task = core.row("SELECT * FROM pgflow.complete_task(%s, 'a', 0, %s::jsonb)", run_id, output)
    assert (task["status"], task["error_message"]) == (
        "failed",
        f"[TYPE_VIOLATION] Produced {type} instead of array",
    )
    state = core.state(run_id, "a")
    assert (state["status"], state["error_message"]) == (
        "failed",
        f"[TYPE_VIOLATION] Map step m expects array input but dependency a produced {type}",
    )
    assert (core.run(run_id)["status"], core.queue("f")) == ("failed", [])
    assert core.state(run_id, "aside")["status"] == "started"


def test_a_type_violation_in_a_batch_concerns_its_run_only(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    bad, good = core.start("f", 1), core.start("f", 2)
    tasks = core.claim("f")
    verdicts = dict(
        zip(
            [t.run_id for t in tasks],
            core.complete(tasks, [{} if t.run_id == bad else [9] for t in tasks]),
            strict=True,
        )
    )
    assert verdicts == {bad: "failed", good: "completed"}
    assert [(t.run_id, t.input) for t in core.claim("f")] == [(good, 9)]


def test_one_batch_may_touch_many_runs_and_steps(core: Core) -> None:
    core.flow("f", "a", "b", "c <- a b")
    runs = [core.start("f", i) for i in range(20)]
    tasks = core.claim("f")
    assert core.complete(tasks, [t.step_slug for t in tasks]) == ["completed"] * 40
    tasks = core.claim("f")
    assert {t.run_id: t.input for t in tasks} == {run_id: {"a": "a", "b": "b"} for run_id in runs}
    core.complete(tasks, [t.task_index for t in tasks])
    assert {core.run(run_id)["status"] for run_id in runs} == {"completed"}


def test_a_start_delay_is_the_messages_first_invisibility(core: Core) -> None:
    core.flow("f", "a")
    core.rows("SELECT pgflow.add_step('f', 'b', start_delay => 30)")
    run_id = core.start("f", 1)
    assert [t.step_slug for t in core.claim("f")] == ["a"]
    assert core.state(run_id, "b")["status"] == "started"
    assert [round(m["visible_in"]) for m in core.queue("f")] == [62, 30]


def test_set_vt_batch_refuses_arrays_of_different_lengths(core: Core) -> None:
    core.flow("f")
    with pytest.raises(psycopg.errors.RaiseException, match=r"msg_ids length \(2\) must equal vt_offsets length \(1\)"):
        core.rows("SELECT pgflow.set_vt_batch('f', '{1,2}', '{1}')")
    with pytest.raises(psycopg.errors.UndefinedTable, match=r'relation "pgmq\.q_nowhere" does not exist'):
        core.rows("SELECT pgflow.set_vt_batch('nowhere', '{1}', '{1}')")
    assert core.rows("SELECT * FROM pgflow.set_vt_batch('f', NULL, '{1}')") == []


def test_set_vt_batch_sets_each_messages_own_visibility(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    rows = core.rows("SELECT * FROM pgflow.set_vt_batch('f', '{1,2,99}', '{10,20,30}')")
    assert {row["msg_id"]: row["read_ct"] for row in rows} == {1: 0, 2: 0}
    assert [round(message["visible_in"]) for message in core.queue("f")] == [10, 20]


def test_messages_name_their_task_in_the_order_of_the_elements(core: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", ["x", "y", "z"])
    assert [message["message"] for message in core.queue("f")] == [
        {"flow_slug": "f", "run_id": str(run_id), "step_slug": "m", "task_index": index} for index in range(3)
    ]
    assert [task["message_id"] for task in core.tasks(run_id)] == [m["msg_id"] for m in core.queue("f")]


def test_a_retry_is_delayed_from_the_transactions_time(core: Core) -> None:
    """Tests of other implementations read a delay as vt - enqueued_at, after a life cycle in one transaction."""
    with core.connection.transaction():
        core.flow("f", "a", max_attempts=2, base_delay=3)
        run_id = core.start("f", 1)
        core.register_worker()
        core.rows("SELECT * FROM pgflow.start_tasks('f', '{1}', %s)", core.worker_id)
        core.rows("SELECT pg_sleep(0.6)")
        core.rows("SELECT * FROM pgflow.fail_task(%s, 'a', 0, 'no')", run_id)
        assert core.value("SELECT round(extract(epoch FROM vt - enqueued_at)) FROM pgmq.q_f") == 6


def test_a_type_violation_needs_no_started_task_where_attempts_are_not_given(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    run_id = core.start("f", 1)
    task = core.row("SELECT * FROM pgflow.complete_task(%s, 'a', 0, NULL)", run_id)
    assert (task["status"], task["error_message"]) == (
        "failed",
        "[TYPE_VIOLATION] Produced null instead of array",
    )
    assert (core.run(run_id)["status"], core.archived("f")) == ("failed", 1)


def test_finished_messages_are_deleted_where_the_database_says_so(core: Core) -> None:
    core.flow("f", "m*")
    core.rows("SET pgflow.finished_messages = 'delete'")
    run_id = core.start("f", [1, 2])
    assert core.complete(core.claim("f"), [1, 2]) == ["completed"] * 2
    assert (core.run(run_id)["status"], core.queue("f"), core.archived("f")) == ("completed", [], 0)


def test_nothing_is_archived_or_changed_by_completing_a_task_of_a_failed_run(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    core.claim("f")
    core.rows("UPDATE pgflow.runs SET status = 'failed', failed_at = now()")
    before = core.tasks(run_id)
    assert core.rows("SELECT * FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id) == before
    assert (core.tasks(run_id), core.archived("f")) == (before, 0)


def test_a_late_completion_of_an_ended_step_archives_its_message(core: Core) -> None:
    core.flow("f", "a", "b")
    run_id = core.start("f", 1)
    core.rows("UPDATE pgflow.step_states SET status = 'skipped', skip_reason = 'x' , remaining_tasks = NULL "
              "WHERE step_slug = 'a'")  # fmt: skip
    assert core.row("SELECT * FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id)["status"] == "queued"
    assert core.archived("f") == 1


def test_run_ids_may_be_given(core: Core) -> None:
    core.flow("f", "a")
    run_id = UUID("00000000-0000-4000-8000-000000000001")
    core.rows("SELECT pgflow.start_flow('f', '1', %s)", run_id)
    with pytest.raises(psycopg.errors.UniqueViolation, match="runs_pkey"):
        core.rows("SELECT pgflow.start_flow('f', '1', %s)", run_id)
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="runs_flow_slug_fkey"):
        core.rows("SELECT pgflow.start_flow('nobody', '1')")


def test_run_ids_begin_with_the_minute_of_their_start(core: Core) -> None:
    """An index by run is changed in one place then."""
    core.flow("f", "a")
    minute = "SELECT extract(epoch FROM now())::bigint / 60 %% 4096"
    before = core.value(minute)
    ids = [core.value("SELECT run_id FROM pgflow.start_flow('f', '1')")]
    ids += [row["run_id"] for row in core.rows("SELECT run_id FROM pgflow.start_flows('f', '{1, 2}'::jsonb[])")]
    assert [id.version for id in ids] == [4] * 3
    assert {id.int >> 116 for id in ids} <= {before, core.value(minute)}
    assert len({*ids}) == 3
