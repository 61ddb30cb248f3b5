"""Flows, runs and the client, as Python sees them."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple
from importlib import resources
from typing import Any
from uuid import UUID, uuid4

import pytest

from pgflow import Client, Database, Flow
from pgflow.client import StepProgress
from pgflow.database.flows import compile_flow, require_compiled
from pgflow.errors import (
    FlowShapeMismatchError,
    OutputNotSerializableError,
    RunNotChangedError,
    RunNotFoundError,
    RunNotStartedError,
    RunTimedOutError,
    SchemaMissingError,
)
from tests.support.sql import Core


@pytest.fixture
def database(core: Core) -> Iterator[Database]:
    with Database(core.url) as opened:
        yield opened


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


def shape(*slugs: str) -> str:
    """The shape of a flow of single steps."""
    flow = Flow("f")
    for slug in slugs:
        flow.step(slug=slug)(len)
    return json.dumps(flow.shape())


def progress(client: Client, run_id: UUID) -> dict[str, StepProgress]:
    return {step.step_slug: step for step in client.progress(str(run_id))}


def test_compiling_defines_then_verifies_then_refuses_what_differs(database: Database) -> None:
    assert astuple(compile_flow(database, "f", shape("a"))) == ("compiled", (), ())
    assert astuple(compile_flow(database, "f", shape("a"))) == ("verified", (), ())
    compilation = compile_flow(database, "f", shape("b"))
    assert compilation.status == "mismatch"
    assert compilation.differences == ("Step at index 0: slug differs 'b' vs 'a'",)
    with pytest.raises(FlowShapeMismatchError) as caught:
        require_compiled(database, "f", shape("b"))
    assert str(caught.value).splitlines() == [
        "Flow f in the database differs from the code:",
        "  Step at index 0: slug differs 'b' vs 'a'",
        "Give the flow a new slug, or recompile it with --allow-data-loss, which deletes its runs",
    ]
    assert compile_flow(database, "f", shape("b"), allow_data_loss=True).status == "recompiled"


def test_a_run_is_cancelled_and_retried(core: Core, client: Client) -> None:
    core.flow("f", "a")
    run_id = client.start("f", 1)
    with pytest.raises(RunNotChangedError, match="it goes on, and none of its tasks has stalled for good"):
        client.retry(run_id)
    client.cancel(run_id, "enough", requested_by="anna")
    failure = client.first_failure(run_id)
    assert failure is not None
    assert failure.error_message == "Cancelled: enough"
    with pytest.raises(RunNotChangedError, match="it has ended"):
        client.cancel(run_id)
    client.retry(run_id)
    core.complete(core.claim("f"), [1])
    with pytest.raises(RunNotChangedError, match="it has ended"):
        client.retry(run_id)
    for change in (client.cancel, client.retry):
        with pytest.raises(RunNotFoundError):
            change(str(uuid4()))
        with pytest.raises(RunNotFoundError):
            change("no id")


@pytest.mark.parametrize("value", [0, False, "", None, [], {"a": [1.5, "é"]}])
def test_a_run_goes_from_start_to_its_output(core: Core, client: Client, value: Any) -> None:
    core.flow("f", "a")
    run_id = client.start("f", value)
    begun = client.get(run_id)
    assert (begun.run_id, begun.flow_slug, begun.status, begun.input) == (run_id, "f", "started", value)
    assert (begun.output, begun.remaining_steps, begun.completed_at, begun.failed_at) == (None, 1, None, None)
    core.complete(core.claim("f"), [value])
    ended = client.wait(run_id, timeout=0)
    assert (ended.status, ended.output, ended.remaining_steps) == ("completed", {"a": value}, 0)
    assert ended.completed_at is not None
    assert ended.completed_at >= begun.started_at
    assert client.first_failure(run_id) is None


def test_a_key_starts_one_run_however_often(core: Core, client: Client) -> None:
    core.flow("f", "a")
    core.flow("g", "a")
    first = client.start("f", 1, key="monday")
    assert client.start("f", 2, key="monday") == first
    assert client.get(first).input == 1
    assert len({first, client.start("f", 1, key="tuesday"), client.start("g", 1, key="monday"), client.start("f")}) == 4
    core.rows("DELETE FROM pgflow.step_tasks; DELETE FROM pgflow.step_states; DELETE FROM pgflow.runs")
    assert client.start("f", 1, key="monday") != first


def test_many_runs_start_in_one_statement_in_the_inputs_order(core: Core, client: Client) -> None:
    core.flow("f", "m*", "after <- m")
    keys = ["a", None, "b", "a", None]
    ids = client.start_many("f", [[n] for n in range(5)], keys=keys)
    assert [client.get(run_id).input for run_id in ids] == [[0], [1], [2], [0], [4]]
    assert len(set(ids)) == 4
    assert [len(core.tasks(UUID(run_id))) for run_id in set(ids)] == [1] * 4
    assert client.start_many("f", []) == []
    again = client.start_many("f", [[7], [8], [9]], keys=["b", "new", "a"])
    assert (again[0], again[2]) == (ids[2], ids[0])
    assert client.get(again[1]).input == [8]


def test_one_bad_input_starts_none(core: Core, client: Client) -> None:
    core.flow("f", "m*")
    with pytest.raises(RunNotStartedError, match=r"not an array \(got number\)"):
        client.start_many("f", [[1], 2], keys=["a", "b"])
    assert core.value("SELECT count(*) FROM pgflow.runs") == 0
    with pytest.raises(RunNotStartedError, match="2 inputs, but 1 keys"):
        client.start_many("f", [[1], [2]], keys=["a"])
    with pytest.raises(RunNotStartedError, match="there is no flow nowhere"):
        client.start_many("nowhere", [1], keys=["a"])


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("k" * 20_000, r"its key 'k{59}\.\.\. has 20,000 bytes, and at most 2,000 are allowed: take a hash of it"),
        ("\N{GRINNING FACE}" * 501, "has 2,004 bytes"),
        ("a\0b", "NUL"),
        ("\udcff", r"its key '\\udcff' is no text that PostgreSQL can hold"),
    ],
)
def test_a_key_that_cannot_be_kept_is_refused(core: Core, client: Client, key: str, reason: str) -> None:
    core.flow("f", "a")
    with pytest.raises(RunNotStartedError, match=reason):
        client.start_many("f", [1, 2], keys=[None, key])
    assert core.value("SELECT count(*) FROM pgflow.runs") == 0


def test_the_longest_key_is_kept_whatever_it_holds(core: Core, client: Client) -> None:
    slug = "f" * 47
    core.flow(slug, "a")
    key = "".join(random.Random(7).choices("".join(map(chr, range(0x10000, 0x20000))), k=500))  # not to be compressed
    assert client.start(slug, 1, key=key) == client.start(slug, 1, key=key)


def test_a_flow_that_is_not_defined_is_not_started(client: Client) -> None:
    reason = "there is no flow nowhere; define it with `pgflow compile`"
    with pytest.raises(RunNotStartedError, match=reason):
        client.start("nowhere", {})


@pytest.mark.parametrize(("value", "kind"), [({}, "object"), (None, "null"), (5, "number"), ("[]", "string")])
def test_a_root_map_takes_only_an_array(core: Core, client: Client, value: Any, kind: str) -> None:
    core.flow("f", "m*")
    with pytest.raises(RunNotStartedError, match=rf"input is not an array \(got {kind}\)"):
        client.start("f", value)
    assert core.rows("SELECT FROM pgflow.runs") == []


@pytest.mark.parametrize("value", [{"a": [float("nan")]}, {"a": ["\0"]}])
def test_an_input_that_is_no_json_names_the_path(core: Core, client: Client, value: Any) -> None:
    core.flow("f", "a")
    with pytest.raises(OutputNotSerializableError, match=r"at \$\.a\[0\]"):
        client.start("f", value)


@pytest.mark.parametrize("run_id", ["66f0ce51-9f53-456f-b19a-70dda1bf81e7", "nonsense", ""])
def test_a_run_that_is_unknown_is_named_with_its_database(client: Client, run_id: str) -> None:
    for read in (client.get, client.status, client.wait):
        with pytest.raises(RunNotFoundError, match=f"There is no run {run_id} in the database sql_core"):
            read(run_id)


def test_a_database_without_the_schema_is_told_apart(empty_database_url: str) -> None:
    with Database(empty_database_url) as database:
        client = Client(database)
        with pytest.raises(SchemaMissingError):
            client.start("f", {})
        with pytest.raises(SchemaMissingError):
            client.get(str(uuid4()))


def test_waiting_ends_when_the_run_does(core: Core, other: Core, client: Client) -> None:
    core.flow("f", "a")
    run_id = client.start("f", {})
    task = other.claim("f")
    finisher = threading.Timer(0.2, lambda: other.complete(task, ["done"]))
    finisher.start()
    assert client.wait(run_id, timeout=20).output == {"a": "done"}
    finisher.join()


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_waiting_gives_up_at_its_timeout_and_not_before(core: Core, client: Client, timeout: float) -> None:
    core.flow("f", "a")
    run_id = client.start("f", {})
    began = time.monotonic()
    with pytest.raises(RunTimedOutError, match=f"has not ended within {timeout} s"):
        client.wait(run_id, timeout=timeout)
    assert timeout <= time.monotonic() - began < timeout + 1


def test_progress_lists_the_steps_as_defined_with_their_tasks(core: Core, client: Client) -> None:
    core.flow("f", "z", "m* <- z", "a <- m", max_attempts=2)
    run_id = core.start("f", {})
    assert list(progress(client, run_id)) == ["z", "m", "a"]
    assert astuple(progress(client, run_id)["m"]) == ("m", "map", "created", None, 0, 0, 0, 0, 0, None)
    core.complete(core.claim("f"), [[1, 2, 3, 4]])
    tasks = core.claim("f", 3)
    core.complete(tasks[:1], [1])
    core.fail(tasks[1:2], ["again"])
    steps = progress(client, run_id)
    assert astuple(steps["z"]) == ("z", "single", "completed", 1, 0, 0, 1, 0, 0, None)
    assert astuple(steps["m"]) == ("m", "map", "started", 4, 2, 1, 1, 0, 0, None)
    core.fail([task for task in core.claim("f") if task.attempt == 2], ["for good"])
    steps = progress(client, run_id)
    assert (steps["m"].status, steps["m"].failed, steps["m"].retries) == ("failed", 1, 1)
    assert steps["m"].error_message == "for good"
    assert (steps["a"].status, steps["a"].tasks) == ("created", 1)


def test_the_failure_is_the_task_that_ended_the_run(core: Core, client: Client) -> None:
    core.flow("f", "m*", "slow")
    run_id = str(core.start("f", [10, 20, 30]))
    tasks = {(task.step_slug, task.task_index): task for task in core.claim("f")}
    assert client.first_failure(run_id) is None
    core.fail([tasks["m", 1]], ["bad element"])
    core.fail([tasks["m", 0]], ["too late"])
    failure = client.first_failure(run_id)
    assert failure is not None
    assert astuple(failure) == ("m", "map", 1, 1, "bad element")


def test_a_failed_task_whose_step_was_skipped_is_no_failure(core: Core, client: Client) -> None:
    core.flow("f")
    core.step("f", "a", when_exhausted="skip")
    run_id = str(core.start("f", {}))
    core.fail(core.claim("f"), ["never mind"])
    assert client.get(run_id).status == "completed"
    assert client.first_failure(run_id) is None


def test_a_step_that_fails_without_tasks_is_the_failure(core: Core, client: Client) -> None:
    core.flow("f")
    core.step("f", "a", required_input_pattern={"go": True}, when_unmet="fail")
    run_id = str(core.start("f", {"go": False}))
    failure = client.first_failure(run_id)
    assert failure is not None
    assert astuple(failure)[:4] == ("a", "single", None, 0)
    assert failure.error_message


def test_a_map_over_no_array_is_the_failure_of_the_step_before(core: Core, client: Client) -> None:
    core.flow("f", "a", "m* <- a")
    run_id = str(core.start("f", {}))
    core.complete(core.claim("f"), [{"no": "array"}])
    failure = client.first_failure(run_id)
    assert failure is not None
    assert failure.step_slug == "a"
    assert "array" in failure.error_message


def test_progress_reads_no_task_of_other_runs(core: Core) -> None:
    core.flow("f", "m*")
    for _ in range(5):
        core.start("f", [0] * 2_000)
    run_id = core.start("f", [0] * 100)
    text = resources.files("pgflow.database").joinpath("queries", "run_progress.sql").read_text()
    counter = (
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) "
        "FROM pg_stat_xact_user_tables WHERE relname = 'step_tasks'"
    )
    for _ in range(2):
        with core.connection.transaction():
            before = core.value(counter)
            rows = core.connection.execute(text.encode(), {"run_id": run_id}).fetchall()
            assert core.value(counter) - before <= 200
        assert [row["queued"] for row in rows] == [100]
        core.rows("ANALYZE pgflow.step_tasks")
