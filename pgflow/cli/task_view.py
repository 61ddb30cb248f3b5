"""One task as text: in short, or as a report with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pgflow.cli.text import duration, first_line, printable

if TYPE_CHECKING:
    from pgflow.database import Database
    from pgflow.database.inspection import OwnTables
    from pgflow.database.inspection.flows import StepDefinition
    from pgflow.database.inspection.payload import Payload
    from pgflow.database.inspection.tasks import Attempt, Message, TaskDump, TaskState

_TITLE = 10


@dataclass(frozen=True, slots=True)
class Report:
    """A task, and where and when it was looked at. ``database`` is without its password."""

    at: datetime
    pgflow: str
    database: str
    server_version: str
    schema_version: int | None
    dump: TaskDump

    def lines(self) -> Iterator[str]:
        """The report as text; times are UTC."""
        dump = self.dump
        yield from _head(dump)
        schema = "another implementation's schema" if self.schema_version is None else f"schema {self.schema_version}"
        yield _titled(
            "database",
            f"{self.database}, PostgreSQL {self.server_version}, {schema}, pgflow {self.pgflow}, at {_time(self.at)}",
        )
        yield from _history(dump)
        told = dump.attempts[-1].error_message if dump.attempts else None
        if dump.task.error_message is not None and dump.task.error_message != told:
            yield ""
            yield from _text("error", dump.task.error_message, dump.task.error_characters)
        for name, value in (("input", dump.input), ("output", dump.output)):
            yield ""
            yield from _value(name, value)


def report_on(database: Database, own: OwnTables, dump: TaskDump) -> Report:
    """The report of a task."""
    from pgflow._version import VERSION

    (server,) = database.fetch_all("inspection/server")
    return Report(
        at=server["at"],
        pgflow=VERSION,
        database=database.target,
        server_version=server["version"],
        schema_version=own.schema_version,
        dump=dump,
    )


def in_short(dump: TaskDump) -> Iterator[str]:
    """A task in some lines, an attempt in one each."""
    yield from _head(dump)
    for attempt in dump.attempts or ():
        yield _titled(f"attempt {attempt.attempt}", f"{_ended(attempt)}  {first_line(attempt.error_message)}".rstrip())
    if not dump.attempts and dump.task.error_message:
        yield _titled("error", first_line(dump.task.error_message))
    yield _titled("input", _in_a_line(dump.input))
    yield _titled("output", _in_a_line(dump.output))


def _head(dump: TaskDump) -> Iterator[str]:
    task, run = dump.task, dump.run
    yield _titled("task", f"{run.flow_slug}/{task.step_slug}[{task.task_index}] of run {run.run_id}")
    yield _titled("status", f"{task.status}, {_attempts(task)}")
    yield _titled("times", ", ".join(_times(task)))
    ended = f", ended {_time(run.ended_at)}" if run.ended_at else ""
    yield _titled(
        "run", f"{run.status}, started {_time(run.started_at)}{ended}; {run.ended_steps} of {run.steps} steps done"
    )
    yield _titled("step", "; ".join(step_in_words(dump.step)))
    yield _titled("worker", _worker(dump))
    yield _titled("message", _message(dump.message, dump.message_problem, task.message_id))


def _titled(title: str, text: str) -> str:
    return f"{title:<{_TITLE}}{text}"


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%FT%T.%f}"[:-3] + "Z"


def _attempts(task: TaskState) -> str:
    words = f"attempt {task.attempts} of {task.max_attempts}"
    if task.requeued:
        words += f", handed back {task.requeued} times"
    return f"{words}, stalled for good since {_time(task.stalled_at)}" if task.stalled_at else words


def _times(task: TaskState) -> Iterator[str]:
    yield f"queued {_time(task.queued_at)}"
    if task.started_at:
        yield f"started {_time(task.started_at)}"
    if task.ended_at:
        yield f"ended {_time(task.ended_at)}"
    if task.seconds is not None:
        yield f"{'took' if task.ended_at else 'for'} {duration(task.seconds)}"


def step_in_words(step: StepDefinition) -> Iterator[str]:
    """A step's options, each in words."""
    over = f" over {step.depends_on[0]}" if step.depends_on else " over the run's input"
    after = f" after {', '.join(step.depends_on)}" if step.depends_on else ""
    yield f"map{over}" if step.kind == "map" else f"single{after}"
    yield f"timeout {step.timeout} s"
    yield f"max_attempts {step.max_attempts}"
    yield f"base_delay {step.base_delay} s"
    if step.start_delay:
        yield f"start_delay {step.start_delay} s"
    if step.required_input_pattern is not None:
        yield f"if {printable(step.required_input_pattern)}"
    if step.forbidden_input_pattern is not None:
        yield f"if_not {printable(step.forbidden_input_pattern)}"
    if step.required_input_pattern is not None or step.forbidden_input_pattern is not None:
        yield f"when_unmet {step.when_unmet}"
    if step.when_exhausted != "fail":
        yield f"when_exhausted {step.when_exhausted}"


def _worker(dump: TaskDump) -> str:
    worker = dump.worker
    if worker is None:
        return "none" if dump.task.worker_id is None else f"{dump.task.worker_id}, whose row is gone"
    heard = f"{worker.status}, last heard of {_time(worker.last_heartbeat_at)}, holds {worker.holds}"
    return f"{dump.task.worker_id} ({printable(worker.name)}), {heard}"


def _message(message: Message | None, problem: str | None, message_id: int | None) -> str:
    if problem is not None:
        return f"{message_id}, cannot be read ({problem})"
    if message is None:
        return "none" if message_id is None else f"{message_id}, which is neither in the queue nor in its archive"
    read = f"read_ct {message.read_ct}, enqueued {_time(message.enqueued_at)}"
    if message.place == "archive":
        return f"{message.msg_id}, archived {_time(message.archived_at)}, {read}"
    seen = "visible" if message.visible_in <= 0 else f"visible in {duration(message.visible_in)}"
    return f"{message.msg_id} in the queue, {seen} (vt {_time(message.vt)}), {read}"


def _history(dump: TaskDump) -> Iterator[str]:
    if dump.attempts is None:
        yield _titled("attempts", "this core keeps no history of them")
        return
    left_out = dump.attempts_in_all - len(dump.attempts)
    if left_out:
        yield ""
        yield f"{left_out} earlier attempts are left out; --full has them"
    for attempt in dump.attempts:
        yield ""
        yield f"attempt {attempt.attempt}: {_ended(attempt)}"
        times = f"started {_time(attempt.started_at)}, ended {_time(attempt.ended_at)}"
        yield f"  worker {attempt.worker_id or '-'}, {times}"
        if attempt.evidence is not None:
            yield f"  evidence {printable(attempt.evidence)}"
        if attempt.error_message is not None:
            yield from (f"  {line}" for line in _text("error", attempt.error_message, attempt.error_characters))


def _ended(attempt: Attempt) -> str:
    return f"{attempt.outcome} after {duration(attempt.seconds)}"


def _text(title: str, text: str, characters: int | None) -> Iterator[str]:
    yield f"{title} ({characters:,} characters)"
    yield from (f"  {line}" for line in printable(text).splitlines())
    if characters is not None and characters > len(text):
        yield f"  ... cut after {len(text):,} characters; --full has all"


def _value(name: str, value: Payload | None) -> Iterator[str]:
    if value is None:
        yield f"{name}: none"
        return
    yield f"{name} ({value.bytes:,} bytes)"
    yield f"  {printable((value.beginning if value.truncated else value.value) or '')}"
    if value.truncated:
        yield f"  ... cut after {len(value.beginning or ''):,} characters; --full has all"


def _in_a_line(value: Payload | None) -> str:
    if value is None:
        return "none"
    text = (value.beginning if value.truncated else value.value) or ""
    return printable(text) if len(text) <= 200 else f"({value.bytes:,} bytes) {printable(text[:200])}…"
