"""What the SQL core has to do, in plain Python, to compare it with.

Written from the contract (its sections 1, 4, 6 and 7, with section 11's better things: D3, D4, D6, D10), not from the
SQL; what is ours is as its functions say: batches, releases, requeued tasks, recorded failures, cancelled and retried runs. Time and
events are left out: base delays are 0, so a retried task is claimable at once.

A batch is what its functions say of it. All of it is judged before any of it is done; then tasks complete or go back to
the queue, then steps end, the ones that fail their run first; and only then everything else in the runs follows. For a
batch of one that is the contract's function.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

GIVEN_UP = "Task was given up: it was handed back 3 times and its worker died again"
"""What a task fails with that would be handed back a fourth time; its first line."""
TYPE_NAMES = {bool: "boolean", int: "number", str: "string", list: "array", dict: "object", type(None): "null"}


@dataclass(frozen=True)
class Json:
    """A jsonb value, equal to another when jsonb says so (in Python, 1 equals True). SQL's NULL is None instead."""

    text: str

    @classmethod
    def of(cls, value: Any) -> Json:
        """The value of Python data."""
        return cls(json.dumps(value, sort_keys=True))

    @property
    def value(self) -> Any:
        """The Python data."""
        return json.loads(self.text)

    def __repr__(self) -> str:
        return f"Json({self.text})"


def data(value: Json | None) -> Any:
    """A value inside another one, where SQL's NULL becomes JSON's null."""
    return None if value is None else value.value


def type_name(value: Json | None) -> str:
    """How an error calls a value's type."""
    return TYPE_NAMES[type(data(value))]


def contains(value: Any, pattern: Any) -> bool:
    """The operator ``@>`` of jsonb, for a pattern that is an object at the top."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], part) for key, part in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(contains(element, part) for element in value) for part in pattern)
    return Json.of(value) == Json.of(pattern)


@dataclass(frozen=True)
class Step:
    """A step's definition; its flow's steps come in the order of their indexes."""

    slug: str
    is_map: bool
    deps: tuple[str, ...]
    max_attempts: int | None = None
    when_unmet: str = "skip"
    when_exhausted: str = "fail"
    records_failures: bool = False
    required: Json | None = None
    forbidden: Json | None = None


@dataclass(frozen=True)
class Flow:
    """A flow's definition."""

    slug: str
    max_attempts: int
    steps: tuple[Step, ...]

    @property
    def has_root_map(self) -> bool:
        """Whether a run needs an array as its input."""
        return any(step.is_map and not step.deps for step in self.steps)

    def dependents(self, slug: str) -> list[Step]:
        """The steps that depend on a step directly."""
        return [step for step in self.steps if slug in step.deps]


@dataclass(eq=False)
class Task:
    """A row of step_tasks, where its message is, and how its attempts ended: which, outcome and error. The message's id is
    told to the model. Messages from before the run was retried are all archived."""

    state: StepState
    index: int
    status: str = "queued"
    attempts: int = 0
    output: Json | None = None
    error_message: str | None = None
    requeued: int = 0
    message_place: str = "queue"
    message_id: int | None = None
    former_message_ids: list[int] = field(default_factory=list)
    history: list[tuple[int, str, str | None]] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The task's run."""
        return self.state.run

    @property
    def max_attempts(self) -> int:
        """How many attempts there are in all."""
        step = self.state.step
        return self.run.flow.max_attempts if step.max_attempts is None else step.max_attempts

    @property
    def input(self) -> Any:
        """What a claim hands to the worker."""
        step = self.state.step
        if step.is_map:
            source = self.run.states[step.deps[0]].output if step.deps else self.run.input
            return data(source)[self.index]
        return self.state.input

    def end_attempt(self, outcome: str, error_message: str | None = None) -> None:
        """An attempt is over; each is once."""
        self.history.append((self.attempts, outcome, error_message))


@dataclass(eq=False)
class StepState:
    """A row of step_states."""

    run: Run
    step: Step
    remaining_deps: int
    initial_tasks: int | None
    status: str = "created"
    remaining_tasks: int | None = None
    output: Json | None = None
    error_message: str | None = None
    skip_reason: str | None = None
    tasks: list[Task] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        """Whether all that the step waited for has ended."""
        return self.status == "created" and self.remaining_deps == 0

    @property
    def input(self) -> Any:
        """What conditions look at: the run's input, or the outputs of the completed dependencies."""
        if not self.step.deps:
            return self.run.input.value
        parents = [self.run.states[slug] for slug in self.step.deps]
        return {parent.step.slug: data(parent.output) for parent in parents if parent.status == "completed"}

    @property
    def is_met(self) -> bool:
        """Whether the step's condition is met."""
        required, forbidden = self.step.required, self.step.forbidden
        return (required is None or contains(self.input, required.value)) and (
            forbidden is None or not contains(self.input, forbidden.value)
        )

    @property
    def waiting_map(self) -> Step | None:
        """The first dependent map that takes its elements from this step's output, if this is a single step."""
        if self.step.is_map:
            return None
        dependents = self.run.flow.dependents(self.step.slug)
        return next((s for s in dependents if s.is_map and self.run.states[s.slug].initial_tasks is None), None)


@dataclass(eq=False)
class Run:
    """A row of runs, with its step states in the order of the steps."""

    run_id: UUID
    flow: Flow
    input: Json
    remaining_steps: int
    status: str = "started"
    output: Json | None = None
    states: dict[str, StepState] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """All tasks, by step and index."""
        return [task for state in self.states.values() for task in state.tasks]


@dataclass(frozen=True)
class Report:
    """What is reported of a task. Without an attempt, or a message, it is about whichever there is."""

    task: Task
    attempt: int | None
    message_id: int | None = None
    output: Json | None = None
    error_message: str | None = None
    may_retry: bool = True


class Model:
    """Runs of flows, and the functions that change them. Those that judge return a verdict for each report."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    @property
    def tasks(self) -> list[Task]:
        """All tasks there are."""
        return [task for run in self.runs for task in run.tasks]

    def start(self, flow: Flow, run_id: UUID, input: Json) -> None:
        """Start a run."""
        run = Run(run_id, flow, input, len(flow.steps))
        for step in flow.steps:
            elements = None if step.deps else len(input.value) if step.is_map else 1
            run.states[step.slug] = StepState(run, step, len(step.deps), elements if step.is_map else 1)
        self.runs.append(run)
        _advance(run)

    def claim(self, flow: Flow, quantity: int) -> list[Task]:
        """Claim tasks, those with the oldest messages; every queued message belongs to a task that can start."""
        claimable = [t for t in self.tasks if t.run.flow is flow and (t.message_place, t.status) == ("queue", "queued")]
        claimed = sorted(claimable, key=lambda task: task.message_id or 0)[:quantity]
        for task in claimed:
            task.status = "started"
            task.attempts += 1
        return claimed

    def release(self, reports: Sequence[Report]) -> list[str]:
        """Hand tasks back, without an attempt spent."""
        verdicts = _judge(reports)
        for report in _having(reports, verdicts, "ready"):
            report.task.end_attempt("released")
            report.task.status = "queued"
            report.task.attempts -= 1
        return ["released" if verdict == "ready" else verdict for verdict in verdicts]

    def complete(self, reports: Sequence[Report]) -> list[str]:
        """Complete tasks. An output that cannot feed the map which waits for it fails the run."""
        verdicts = _judge(reports)
        verdicts = _complete_ready([replace(report, error_message=None) for report in reports], verdicts)
        for report in _having(reports, verdicts, "over"):
            if report.task.run.status != "failed":
                report.task.message_place = "archive"
        _advance(*(report.task.run for report in reports))
        return verdicts

    def fail(self, reports: Sequence[Report]) -> list[str]:
        """Fail attempts. Tasks without attempts left complete with their errors, or end their steps, each step with its
        first error."""
        verdicts = _judge(reports)
        for position, report in enumerate(reports):
            if verdicts[position] == "ready":
                has_attempts = report.task.attempts < report.task.max_attempts
                records = report.task.state.step.records_failures
                verdicts[position] = (
                    "retried" if has_attempts and report.may_retry else "recorded" if records else "failed"
                )

        for report in _having(reports, verdicts, "retried"):
            report.task.end_attempt("failed", report.error_message)
            report.task.status, report.task.error_message = "queued", report.error_message
        return self._give_up(reports, verdicts, "failed")

    def requeue(self, reports: Sequence[Report]) -> list[str]:
        """Hand back the tasks of workers that are gone, without an attempt spent; but three times at most."""
        verdicts = _judge(reports)
        for position, report in enumerate(reports):
            task = report.task
            if verdicts[position] == "ready":
                records = task.state.step.records_failures
                verdicts[position] = "requeued" if task.requeued < 3 else "recorded" if records else "failed"
        for report in _having(reports, verdicts, "requeued"):
            report.task.end_attempt("requeued", report.error_message)
            report.task.status = "queued"
            report.task.attempts -= 1
            report.task.requeued += 1
        told = [
            replace(report, error_message=GIVEN_UP) if verdict in ("recorded", "failed") else report
            for report, verdict in zip(reports, verdicts, strict=True)
        ]
        return self._give_up(told, verdicts, "crashed")

    def _give_up(self, reports: Sequence[Report], verdicts: Sequence[str], outcome: str) -> list[str]:
        ending: dict[StepState, str | None] = {}
        for report in _having(reports, verdicts, "failed"):
            report.task.end_attempt(outcome, report.error_message)
            report.task.status, report.task.error_message = "failed", report.error_message
            report.task.message_place = "archive"
            ending.setdefault(report.task.state, report.error_message)

        verdicts = self._record(reports, verdicts, outcome)
        for report in _having(reports, verdicts, "over"):
            if report.task.run.status == "failed" and report.task.status == "started":
                report.task.status, report.task.error_message = "failed", report.error_message
            report.task.message_place = "archive"

        for state, error_message in ending.items():
            if state.step.when_exhausted == "fail" and state.run.status == "started":
                _fail_steps([state], error_message)

        skipped = [state for state in ending if state.run.status == "started"]
        for state in skipped:
            _skip_step(state, "handler_failed", ending[state])
        _release_dependents(state for state in skipped if state.step.when_exhausted == "skip")
        for state in skipped:
            if state.step.when_exhausted == "skip-cascade":
                _skip_dependents(state)
        _advance(*(state.run for state in skipped))
        return verdicts

    def _record(self, reports: Sequence[Report], verdicts: Sequence[str], outcome: str) -> list[str]:
        runs = [report.task.run for report in _having(reports, verdicts, "recorded")]
        with_errors = [
            replace(
                report,
                attempt=report.task.attempts,
                output=Json.of(
                    {
                        "$error": {
                            "message": report.error_message,
                            "kind": outcome,
                            "attempts": report.task.attempts,
                        }
                    }
                ),
            )
            for report in reports
        ]
        judged = ["ready" if verdict == "recorded" else verdict for verdict in verdicts]
        done = _complete_ready(with_errors, judged, outcome)
        _advance(*runs)
        return ["recorded" if verdict == "completed" else verdict for verdict in done]

    def cancel(self, run: Run, reason: str) -> str:
        """End a run with the steps that go on."""
        if run.status != "started":
            return "over"
        _fail_steps([s for s in run.states.values() if s.status == "started"], f"Cancelled: {reason}")
        _fail_run(run)
        return "cancelled"

    def retry(self, run: Run) -> str:
        """Let a failed run go on, with all attempts and new messages for what has not completed of the steps that had
        started."""
        if run.status != "failed":
            return "over" if run.status == "completed" else "started"
        run.status = "started"
        for state in run.states.values():
            if state.status == "failed":
                state.status, state.error_message = ("started" if state.tasks else "created"), None
            if state.status == "started":
                for task in state.tasks:
                    if task.status != "completed":
                        former = [*task.former_message_ids, task.message_id or 0]
                        state.tasks[task.index] = Task(
                            state, task.index, former_message_ids=former, history=task.history
                        )
        _advance(run)
        return "failed" if run.status == "failed" else "retried"


def _judge(reports: Sequence[Report]) -> list[str]:
    verdicts = []
    ready: set[Task] = set()
    for report in reports:
        task = report.task
        if report.attempt not in (None, task.attempts) or report.message_id not in (None, task.message_id):
            verdicts.append("stale")
        elif task.run.status != "started" or task.state.status != "started":
            verdicts.append("over")
        elif task.status != "started" or task in ready:
            verdicts.append("stale")
        else:
            verdicts.append("ready")
            ready.add(task)
    return verdicts


def _complete_ready(reports: Sequence[Report], verdicts: Sequence[str], outcome: str | None = None) -> list[str]:
    """Complete what is ready; the attempts are said to have come to ``outcome``, if that is given. The first output of a run that cannot feed its map fails the run, after all others are
    done; by the contract a task that is queued can fail so too, if the report does not say whom it is from."""
    verdicts = list(verdicts)
    violations: dict[Run, tuple[Report, Step]] = {}
    for position, report in enumerate(reports):
        waiting_map = report.task.state.waiting_map
        if waiting_map is None or type_name(report.output) == "array":
            continue
        is_from_anybody = report.attempt is None and report.message_id is None
        if verdicts[position] == "ready" or (
            verdicts[position] == "stale" and is_from_anybody and report.task.status == "queued"
        ):
            verdicts[position] = "over" if report.task.run in violations else "failed"
            violations.setdefault(report.task.run, (report, waiting_map))

    completed_steps = []
    for report in _having(reports, verdicts, "ready"):
        task, state = report.task, report.task.state
        task.end_attempt(outcome or "completed", report.error_message)
        task.status, task.output, task.message_place = "completed", report.output, "archive"
        task.error_message = report.error_message or task.error_message
        assert state.remaining_tasks is not None
        state.remaining_tasks -= 1
        if state.remaining_tasks == 0:
            _complete_step(state)
            completed_steps.append(state)
    _release_dependents(completed_steps)

    for report, waiting_map in violations.values():
        produced = type_name(report.output)
        was_started = report.task.status == "started"
        report.task.status, report.task.output = "failed", report.output
        report.task.message_place = "archive"
        report.task.error_message = f"[TYPE_VIOLATION] Produced {produced} instead of array"
        if was_started:
            report.task.end_attempt(outcome or "failed", report.error_message or report.task.error_message)
        _fail_steps(
            [report.task.state],
            f"[TYPE_VIOLATION] Map step {waiting_map.slug} expects array input "
            f"but dependency {report.task.state.step.slug} produced {produced}",
        )
    return ["completed" if verdict == "ready" else verdict for verdict in verdicts]


def _having(reports: Sequence[Report], verdicts: Sequence[str], verdict: str) -> list[Report]:
    return [report for report, judged in zip(reports, verdicts, strict=True) if judged == verdict]


def _advance(*runs: Run) -> None:
    """Bring runs as far as they come without a worker. A condition comes before all else that its step does (D3)."""
    for run in runs:
        _resolve_conditions(run)
        while run.status == "started" and (wave := _ready(run, has_tasks=False)):
            for state in wave:
                state.status, state.remaining_tasks = "completed", 0
                state.output = Json.of([]) if state.step.is_map else None
                run.remaining_steps -= 1
            _release_dependents(wave)
            _resolve_conditions(run)
        if run.status != "started":
            continue
        for state in _ready(run, has_tasks=True):
            assert state.initial_tasks is not None
            state.status, state.remaining_tasks = "started", state.initial_tasks
            state.tasks = [Task(state, index) for index in range(state.initial_tasks)]
        if run.remaining_steps == 0:
            _complete_run(run)


def _ready(run: Run, has_tasks: bool) -> list[StepState]:
    return [
        state
        for state in run.states.values()
        if state.is_ready and state.initial_tasks is not None and (state.initial_tasks > 0) == has_tasks
    ]


def _resolve_conditions(run: Run) -> None:
    while run.status == "started":
        unmet = [state for state in run.states.values() if state.is_ready and not state.is_met]
        for state in unmet:
            if state.step.when_unmet == "fail":
                _fail_steps([state], "Condition not met")
                return
        wave = [state for state in unmet if state.step.when_unmet == "skip"]
        for state in wave:
            _skip_step(state, "condition_unmet")
        _release_dependents(wave)
        for state in unmet:
            if state.step.when_unmet == "skip-cascade":
                _skip_step(state, "condition_unmet")
                _skip_dependents(state)
        if not wave:
            return


def _complete_step(state: StepState) -> None:
    state.status = "completed"
    state.output = Json.of([data(t.output) for t in state.tasks]) if state.step.is_map else state.tasks[0].output
    state.run.remaining_steps -= 1


def _release_dependents(ended: Iterable[StepState]) -> None:
    for parent in ended:
        for step in parent.run.flow.dependents(parent.step.slug):
            dependent = parent.run.states[step.slug]
            dependent.remaining_deps -= 1
            if step.is_map and dependent.initial_tasks is None:
                dependent.initial_tasks = 0 if parent.status == "skipped" else len(data(parent.output))


def _skip_step(state: StepState, reason: str, error_message: str | None = None) -> None:
    if state.status not in ("created", "started"):
        return
    state.status, state.skip_reason, state.error_message = "skipped", reason, error_message
    state.remaining_tasks = None
    state.run.remaining_steps -= 1
    for task in state.tasks:
        if task.status == "started":
            task.end_attempt("cancelled")
        if task.status in ("queued", "started"):
            task.status, task.message_place = "skipped", "archive"


def _skip_dependents(state: StepState) -> None:
    for step in state.run.flow.dependents(state.step.slug):
        _skip_step(state.run.states[step.slug], "dependency_skipped")
        _skip_dependents(state.run.states[step.slug])


def _fail_steps(states: Sequence[StepState], error_message: str | None) -> None:
    for state in states:
        state.status, state.error_message = "failed", error_message
        _fail_run(state.run)


def _fail_run(run: Run) -> None:
    if run.status == "failed":
        return
    run.status = "failed"
    for task in run.tasks:
        if task.status == "started":
            task.end_attempt("cancelled")
        if task.status in ("queued", "started"):
            task.message_place = "archive"


def _complete_run(run: Run) -> None:
    run.status = "completed"
    leaves = {
        slug: data(state.output)
        for slug, state in run.states.items()
        if state.status == "completed" and not run.flow.dependents(slug)
    }
    run.output = Json.of(leaves) if leaves else None
