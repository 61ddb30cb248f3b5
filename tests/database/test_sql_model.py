"""The SQL core against a model of it: random flows and random calls, and after every call the same tables.

PGFLOW_MODEL_EXAMPLES=2000 hunts with that many new examples; else there are a few, and the same ones each time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.model import GIVEN_UP, Flow, Json, Model, Report, Run, Step, Task, type_name
from tests.support.sql import Core, Row

HUNTED_EXAMPLES = int(os.environ.get("PGFLOW_MODEL_EXAMPLES", "0"))
GATE_EXAMPLES = 40
CALLS_OF_AN_EXAMPLE = 25
# Nothing that was claimed becomes visible again while a test runs.
TIMEOUT_SECONDS = 3600

settings.register_profile(
    "model_gate",
    max_examples=GATE_EXAMPLES,
    stateful_step_count=CALLS_OF_AN_EXAMPLE,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "model_hunt", settings.get_profile("model_gate"), max_examples=HUNTED_EXAMPLES or 1, derandomize=False
)
PROFILE = settings.get_profile("model_hunt" if HUNTED_EXAMPLES else "model_gate")

_numbers = itertools.count()

# Few values, so that conditions are often met and often not.
scalars = st.sampled_from([0, 1, True, None, "x"])
arrays = st.lists(scalars | st.just({"k": 1}), max_size=3)
objects = st.dictionaries(st.sampled_from(["k", "l"]), scalars | arrays, max_size=2)
values = scalars | arrays | objects | objects
patterns_of_values = st.sampled_from([{}, {"k": 1}, {"k": [1]}, [], [1], 0, 1, None, None])
pick = st.integers(0, 1000)


@st.composite
def steps(draw: st.DrawFn, previous: tuple[str, ...]) -> Step:
    """A step after others."""
    is_map = draw(st.booleans())
    deps = st.lists(st.sampled_from(previous), unique=True, max_size=1 if is_map else 3) if previous else st.just([])
    dep_slugs = tuple(draw(deps))
    if dep_slugs:
        patterns = st.dictionaries(st.sampled_from(dep_slugs), patterns_of_values, max_size=2)
    else:
        patterns = st.sampled_from([{}, {"k": 1}, {"k": []}, {"l": "x"}])
    conditions = st.none() | st.none() | st.none() | st.none() | patterns.map(Json.of)
    unmet = st.sampled_from(["skip", "skip", "skip-cascade", "skip-cascade", "fail"])
    return Step(
        slug="abcdef"[len(previous)],
        is_map=is_map,
        deps=dep_slugs,
        max_attempts=draw(st.sampled_from([None, 0, 1, 2, 3, 3])),
        when_unmet=draw(unmet),
        when_exhausted=draw(st.sampled_from(["fail", "skip", "skip-cascade"])),
        records_failures=draw(st.sampled_from([False, False, False, True])),
        required=draw(conditions),
        forbidden=draw(conditions),
    )


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """A flow; its slug is its own."""
    defined: list[Step] = []
    for _ in range(draw(st.integers(1, 6))):
        defined.append(draw(steps(tuple(step.slug for step in defined))))
    return Flow(f"model_{next(_numbers)}", draw(st.sampled_from([1, 2, 3, 3])), tuple(defined))


@dataclass(frozen=True)
class Input:
    """An input that fits any flow, and one that may not."""

    array: Json
    any: Json
    has_to_fit: bool

    def of(self, flow: Flow) -> Json:
        """The input for a flow."""
        return self.array if flow.has_root_map and self.has_to_fit else self.any


@dataclass(frozen=True)
class Mention:
    """A task picked from many, and what is reported of it, said before it is known which task that is."""

    pick: int
    among: str
    array: Json
    any: Json | None
    has_to_fit: bool
    attempt_difference: int
    is_from_before: bool
    may_retry: bool

    def report(self, model: Model, number: int, fence: frozenset[str]) -> Report | None:
        """The report, if there is a task."""
        candidates = among(model, self.among) or model.tasks
        if not candidates:
            return None
        task = candidates[self.pick % len(candidates)]
        former = task.former_message_ids[:1] if self.is_from_before else []
        return Report(
            task,
            attempt=task.attempts + self.attempt_difference if "attempts" in fence else None,
            message_id=[*former, task.message_id][0] if "messages" in fence else None,
            output=self.array if task.state.waiting_map is not None and self.has_to_fit else self.any,
            error_message=f"error {number}",
            may_retry=self.may_retry,
        )


def among(model: Model, which: str) -> list[Task]:
    """Tasks that can still complete and fail, that some worker may be busy with, that are to be claimed, or all."""
    if which == "open":
        return [task for task in model.tasks if task.status == task.run.status == "started"]
    return [task for task in model.tasks if which in ("all", task.status)]


mostly = st.integers(0, 7).map(bool)
inputs = st.builds(Input, arrays.map(Json.of), values.map(Json.of), mostly)
mentions = st.builds(
    Mention,
    pick=pick,
    among=st.sampled_from(["open", "open", "open", "open", "started", "queued", "all"]),
    array=arrays.map(Json.of),
    any=st.none() | values.map(Json.of),
    has_to_fit=st.sampled_from([True, True, True, False]),
    attempt_difference=st.sampled_from([0, 0, 0, 0, 0, 0, 0, -1]),
    is_from_before=st.booleans(),
    may_retry=st.booleans(),
)
batches = st.lists(mentions, min_size=1, max_size=6)
UNFENCED: frozenset[str] = frozenset()
ATTEMPTS = frozenset({"attempts"})
MESSAGES = frozenset({"messages"})
fences = st.sampled_from([ATTEMPTS, ATTEMPTS | MESSAGES, ATTEMPTS | MESSAGES, MESSAGES, UNFENCED])


class CallsAgainstModel(RuleBasedStateMachine):
    """Calls the core and the model, and compares."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core = core
        self.model = Model()
        self.flows: list[Flow] = []
        self.reported = 0

    @initialize(first=flows(), second=st.none() | flows(), inputs=st.lists(inputs, min_size=1, max_size=2))
    def define_and_start(self, first: Flow, second: Flow | None, inputs: list[Input]) -> None:
        self.core.register_worker()
        for flow in [first, second] if second else [first]:
            self.flows.append(flow)
            self.core.rows("SELECT pgflow.create_flow(%s, %s, 0, %s)", flow.slug, flow.max_attempts, TIMEOUT_SECONDS)
            for step in flow.steps:
                self.core.rows(
                    """
                    SELECT pgflow.add_step(
                      %s, %s, %s::text[], max_attempts => %s, step_type => %s, required_input_pattern => %s::jsonb,
                      forbidden_input_pattern => %s::jsonb, when_unmet => %s, when_exhausted => %s
                    )
                    """,
                    *(flow.slug, step.slug, list(step.deps), step.max_attempts, "map" if step.is_map else "single"),
                    *(text(step.required), text(step.forbidden), step.when_unmet, step.when_exhausted),
                )
                if step.records_failures:
                    self.core.rows("SELECT pgflow.record_failures(%s, %s)", flow.slug, step.slug)
        self.input = inputs[0]
        for position, input in enumerate(inputs):
            self.start_flow(position, input)
            self.the_tables_are_the_same()

    def teardown(self) -> None:
        for flow in self.flows:
            self.core.rows("SELECT pgflow.delete_flow_and_data(%s)", flow.slug)

    @rule(pick=pick, input=inputs)
    def start_flow(self, pick: int, input: Input) -> None:
        flow, run_id, value = self.flow(pick), uuid4(), input.of(self.flow(pick))
        call = ("SELECT * FROM pgflow.start_flow(%s, %s::jsonb, %s)", flow.slug, value.text, run_id)
        if flow.has_root_map and type_name(value) != "array":
            error = f"Flow {flow.slug} has root map steps but input is not an array .got {type_name(value)}."
            with pytest.raises(psycopg.errors.RaiseException, match=error):
                self.core.row(*call)
            return
        row = self.core.row(*call)
        self.model.start(flow, run_id, value)
        assert row == self.core.run(run_id)

    @rule(pick=pick, inputs=st.lists(inputs, min_size=1, max_size=2))
    def start_flows(self, pick: int, inputs: list[Input]) -> None:
        flow = self.flow(pick)
        values = [input.array if flow.has_root_map else input.any for input in inputs]
        rows = self.core.rows(
            "SELECT run_id, is_new FROM pgflow.start_flows(%s, %s::jsonb[]) ORDER BY ordinal",
            flow.slug,
            [value.text for value in values],
        )
        assert [row["is_new"] for row in rows] == [True] * len(values)
        for row, value in zip(rows, values, strict=True):
            self.model.start(flow, row["run_id"], value)

    @rule(pick=pick, quantity=st.integers(1, 8))
    def start_tasks(self, pick: int, quantity: int) -> None:
        flow = self.flow(pick)
        rows = self.core.rows("SELECT msg_id FROM pgmq.read(%s, 60, %s)", flow.slug, quantity)
        rows = self.core.rows(
            "SELECT * FROM pgflow.start_tasks(%s, %s::bigint[], %s) ORDER BY msg_id",
            *(flow.slug, [row["msg_id"] for row in rows], self.core.worker_id),
        )
        claimed = self.model.claim(flow, quantity)
        assert [{**row, "input": without_story(row["input"])} for row in rows] == [
            {
                "flow_slug": flow.slug,
                "run_id": task.run.run_id,
                "step_slug": task.state.step.slug,
                "input": {} if kind(task) == "root" else task.input,
                "msg_id": task.message_id,
                "task_index": task.index,
                "flow_input": task.run.input.value if kind(task) == "root" else None,
            }
            for task in claimed
        ]

    @rule(pick=pick, quantity=st.integers(1, 8))
    def claim_tasks(self, pick: int, quantity: int) -> None:
        flow = self.flow(pick)
        rows = self.core.rows(
            """
            SELECT run_id, step_slug, task_index, attempt, msg_id, kind, input::jsonb AS input, max_attempts
            FROM pgflow.claim_tasks(ARRAY[%s], ARRAY[%s]::uuid[], %s)
            ORDER BY msg_id
            """,
            *(flow.slug, self.core.worker_id, quantity),
        )
        claimed = self.model.claim(flow, quantity)
        assert [{**row, "input": without_story(row["input"])} for row in rows] == [
            {
                "run_id": task.run.run_id,
                "step_slug": task.state.step.slug,
                "task_index": task.index,
                "attempt": task.attempts,
                "msg_id": task.message_id,
                "kind": kind(task),
                "input": task.input,
                "max_attempts": task.max_attempts,
            }
            for task in claimed
        ]

    @rule(mention=mentions)
    def complete_task(self, mention: Mention) -> None:
        for report in self.reports([mention], UNFENCED):
            self.model.complete([report])
            self.single_call("complete_task", report, "jsonb", text(report.output))

    @rule(mention=mentions)
    def fail_task(self, mention: Mention) -> None:
        for report in self.reports([replace(mention, may_retry=True)], UNFENCED):
            self.model.fail([report])
            self.single_call("fail_task", report, "text", report.error_message)

    @rule(batch=batches, fence=fences)
    def complete_tasks(self, batch: list[Mention], fence: frozenset[str]) -> None:
        reports = self.reports(batch, fence)
        verdicts = self.batch_call("complete_tasks", reports, fence, {"outputs": [text(r.output) for r in reports]})
        assert verdicts == self.model.complete(reports)

    @rule(batch=batches, fence=fences)
    def fail_tasks(self, batch: list[Mention], fence: frozenset[str]) -> None:
        reports = self.reports(batch, fence)
        arguments: dict[str, list[Any]] = {
            "error_messages": [report.error_message for report in reports],
            "retry_delays": [None if report.may_retry else -1 for report in reports],
        }
        assert self.batch_call("fail_tasks", reports, fence, arguments) == self.model.fail(reports)

    @rule(batch=batches, fence=fences)
    def release_tasks(self, batch: list[Mention], fence: frozenset[str]) -> None:
        reports = self.reports(batch, fence | ATTEMPTS)
        assert self.batch_call("release_tasks", reports, fence | ATTEMPTS, {}) == self.model.release(reports)

    @rule(batch=batches, fence=fences, times=st.integers(1, 4))
    def requeue_tasks(self, batch: list[Mention], fence: frozenset[str], times: int) -> None:
        """Often the same task's workers die, one after another."""
        reports = self.reports(batch, fence | ATTEMPTS)
        for _ in range(times):
            reasons = {"reasons": [report.error_message for report in reports]}
            verdicts = self.batch_call("requeue_tasks", reports, fence | ATTEMPTS, reasons)
            assert verdicts == self.model.requeue(reports)
            self.the_tables_are_the_same()
            for flow in self.flows if "requeued" in verdicts else ():
                self.claim_tasks(self.flows.index(flow), quantity=20)

    @rule(pick=pick)
    def cancel_run(self, pick: int) -> None:
        for run in self.run_picked(pick, "started"):
            verdict = self.core.value("SELECT pgflow.cancel_run(%s, 'enough')", run.run_id)
            assert verdict == self.model.cancel(run, "enough")

    @rule(pick=pick)
    def retry_run(self, pick: int) -> None:
        for run in self.run_picked(pick, "failed"):
            assert self.core.value("SELECT pgflow.retry_run(%s)", run.run_id) == self.model.retry(run)

    @invariant()
    def the_tables_are_the_same(self) -> None:
        for flow in self.flows:
            runs = [run for run in self.model.runs if run.flow is flow]
            actual = self.tables(flow)
            self.learn_message_ids(runs, actual["step_tasks"])
            assert actual == expected_tables(runs)

    def flow(self, pick: int) -> Flow:
        return self.flows[pick % len(self.flows)]

    def run_picked(self, pick: int, status: str) -> list[Run]:
        """One run, of those in a status if there are some, but sometimes another."""
        runs = [run for run in self.model.runs if run.status == status or pick % 4 == 0] or self.model.runs
        return [runs[pick % len(runs)]] if runs else []

    def reports(self, batch: Sequence[Mention], fence: frozenset[str]) -> list[Report]:
        """The reports of a batch; where nothing could complete or fail, tasks are claimed first, maybe of a new run."""
        for position in range(2 * len(self.flows)):
            if among(self.model, "open"):
                break
            if position >= len(self.flows):
                self.start_flow(position, self.input)
                self.the_tables_are_the_same()
            self.claim_tasks(position, quantity=5)
            self.the_tables_are_the_same()
        reports = []
        for mention in batch:
            self.reported += 1
            report = mention.report(self.model, self.reported, fence)
            if report is not None:
                reports.append(report)
        return reports

    def single_call(self, function: str, report: Report, type: str, value: str | None) -> None:
        key = task_key(report.task)
        row = self.core.row(f"SELECT * FROM pgflow.{function}(%s, %s, %s, %s::{type})", *key, value)
        table = "SELECT * FROM pgflow.step_tasks WHERE (run_id, step_slug, task_index) = (%s, %s, %s)"
        assert row == self.core.row(table, *key)

    def batch_call(
        self, function: str, reports: Sequence[Report], fence: frozenset[str], more: dict[str, list[Any]]
    ) -> list[str]:
        arguments: dict[str, list[Any]] = {
            "run_ids": [report.task.run.run_id for report in reports],
            "step_slugs": [report.task.state.step.slug for report in reports],
            "task_indexes": [report.task.index for report in reports],
            **more,
        }
        if "attempts" in fence:
            arguments["attempts"] = [report.attempt for report in reports]
        if "messages" in fence:
            arguments["message_ids"] = [report.message_id for report in reports]
        named = ", ".join(f"{name} => %s::{ARRAY_TYPES[name]}" for name in arguments)
        rows = self.core.rows(
            f"SELECT ordinal, verdict FROM pgflow.{function}({named}) ORDER BY ordinal", *arguments.values()
        )
        assert [row["ordinal"] for row in rows] == list(range(1, len(reports) + 1))
        return [row["verdict"] for row in rows]

    def tables(self, flow: Flow) -> dict[str, dict[Any, Row]]:
        """What the database says of a flow, in the form of ``expected_tables``."""
        return {
            "runs": self.keyed(
                ("run_id",),
                "SELECT run_id, status, remaining_steps, output::text FROM pgflow.runs WHERE flow_slug = %s",
                flow.slug,
            ),
            "step_states": self.keyed(
                ("run_id", "step_slug"),
                "SELECT run_id, step_slug, status, remaining_tasks, remaining_deps, initial_tasks, output::text, "
                "error_message, skip_reason FROM pgflow.step_states WHERE flow_slug = %s",
                flow.slug,
            ),
            "step_tasks": self.keyed(
                ("run_id", "step_slug", "task_index"),
                "SELECT run_id, step_slug, task_index, status, attempts_count, requeued_count, output::text, error_message, "
                "message_id FROM pgflow.step_tasks WHERE flow_slug = %s",
                flow.slug,
            ),
            "task_attempts": self.keyed(
                ("run_id", "step_slug", "task_index", "position"),
                """
                SELECT
                  a.run_id, a.step_slug, a.task_index, a.attempt, a.outcome, a.error_message,
                  row_number() OVER (PARTITION BY a.run_id, a.step_slug, a.task_index ORDER BY a.attempt_id) AS position
                FROM pgflow.task_attempts AS a
                JOIN pgflow.runs AS r ON r.run_id = a.run_id
                WHERE r.flow_slug = %s
                """,
                flow.slug,
            ),
            "messages": self.keyed(
                ("msg_id",),
                f"""
                SELECT msg_id, message, 'queue' AS place, vt <= clock_timestamp() AS is_visible FROM pgmq.q_{flow.slug}
                UNION ALL
                SELECT msg_id, message, 'archive', NULL FROM pgmq.a_{flow.slug}
                """,
            ),
        }

    def keyed(self, names: Sequence[str], statement: str, *parameters: object) -> dict[Any, Row]:
        rows = {}
        for row in self.core.rows(statement, *parameters):
            key = tuple(row.pop(name) for name in names)
            if "output" in row:
                row["output"] = None if row["output"] is None else Json.of(without_story(Json(row["output"]).value))
            if "error_message" in row:
                row["error_message"] = without_story(row["error_message"])
            assert key not in rows
            rows[key] = row
        return rows

    def learn_message_ids(self, runs: Sequence[Run], step_tasks: dict[Any, Row]) -> None:
        """Messages of one call come in any order, but those of a step in the order of its tasks."""
        for state in (state for run in runs for state in run.states.values()):
            previous = 0
            for task in state.tasks:
                if task.message_id is None and (row := step_tasks.get(task_key(task))):
                    task.message_id = row["message_id"]
                    assert task.message_id > previous
                    previous = task.message_id


ARRAY_TYPES = {
    "run_ids": "uuid[]",
    "step_slugs": "text[]",
    "task_indexes": "int[]",
    "outputs": "jsonb[]",
    "error_messages": "text[]",
    "reasons": "text[]",
    "retry_delays": "int[]",
    "attempts": "int[]",
    "message_ids": "bigint[]",
}


def without_story(value: Any) -> Any:
    """Errors of tasks that were given up go without what only the clock and the history know."""
    match value:
        case str():
            return GIVEN_UP if value.startswith(GIVEN_UP) else value
        case list():
            return [without_story(element) for element in value]
        case dict():
            return {key: without_story(element) for key, element in value.items()}
    return value


def text(value: Json | None) -> str | None:
    """A value as an argument."""
    return None if value is None else value.text


def kind(task: Task) -> str:
    """What claim_tasks calls the kind of a task's input."""
    return "map" if task.state.step.is_map else "dependent" if task.state.step.deps else "root"


def task_key(task: Task) -> tuple[UUID, str, int]:
    """The primary key."""
    return task.run.run_id, task.state.step.slug, task.index


def expected_tables(runs: Sequence[Run]) -> dict[str, dict[Any, Row]]:
    """What the model says of runs."""
    tasks = [task for run in runs for task in run.tasks]
    return {
        "runs": {
            (run.run_id,): {"status": run.status, "remaining_steps": run.remaining_steps, "output": run.output}
            for run in runs
        },
        "step_states": {
            (run.run_id, slug): {
                "status": state.status,
                "remaining_tasks": state.remaining_tasks,
                "remaining_deps": state.remaining_deps,
                "initial_tasks": state.initial_tasks,
                "output": state.output,
                "error_message": state.error_message,
                "skip_reason": state.skip_reason,
            }
            for run in runs
            for slug, state in run.states.items()
        },
        "step_tasks": {
            task_key(task): {
                "status": task.status,
                "attempts_count": task.attempts,
                "requeued_count": task.requeued,
                "output": task.output,
                "error_message": task.error_message,
                "message_id": task.message_id,
            }
            for task in tasks
        },
        "task_attempts": {
            (*task_key(task), position): {"attempt": attempt, "outcome": outcome, "error_message": error_message}
            for task in tasks
            for position, (attempt, outcome, error_message) in enumerate(task.history, start=1)
        },
        "messages": {
            (message_id,): {
                "message": {
                    "flow_slug": task.run.flow.slug,
                    "run_id": str(task.run.run_id),
                    "step_slug": task.state.step.slug,
                    "task_index": task.index,
                },
                "place": place,
                "is_visible": task.status == "queued" if place == "queue" else None,
            }
            for task in tasks
            for message_id, place in [
                (task.message_id, task.message_place),
                *((former, "archive") for former in task.former_message_ids),
            ]
        },
    }


@pytest.mark.timeout(600 + HUNTED_EXAMPLES)
def test_the_core_does_what_the_model_does(core: Core) -> None:
    class CallsHere(CallsAgainstModel):
        def __init__(self) -> None:
            super().__init__(core)

    run_state_machine_as_test(CallsHere, settings=PROFILE)
