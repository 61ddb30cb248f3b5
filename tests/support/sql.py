"""The SQL core, called directly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.support.waiting import wait_until

Row = dict[str, Any]


@dataclass(frozen=True)
class Claimed:
    """A task as claim_tasks returned it, with its input decoded."""

    run_id: UUID
    step_slug: str
    task_index: int
    attempt: int
    msg_id: int
    kind: str
    input: Any
    timeout: int
    max_attempts: int


class Core:
    """One connection to a database with the schema; a call is a transaction of its own unless one is open."""

    def __init__(self, url: str) -> None:
        self.url = url
        # A test that waits for a lock for ever shall fail by itself.
        self.connection = psycopg.connect(url, autocommit=True, row_factory=dict_row, options="-c lock_timeout=20s")
        self.worker_id = uuid4()

    def rows(self, statement: str, *parameters: object) -> list[Row]:
        """The rows of a statement, if it has any."""
        cursor = self.connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def row(self, statement: str, *parameters: object) -> Row:
        """The one row of a statement."""
        (row,) = self.rows(statement, *parameters)
        return row

    def value(self, statement: str, *parameters: object) -> Any:
        """The one value of a statement."""
        (value,) = self.row(statement, *parameters).values()
        return value

    def delete_everything(self) -> None:
        """Leave nothing but the schema."""
        self.rows("SELECT pgflow.delete_flow_and_data(flow_slug) FROM pgflow.flows")
        self.rows("DELETE FROM pgflow.workers")
        self.rows("DELETE FROM pgflow.worker_functions")

    def flow(self, slug: str, *steps: str, max_attempts: int = 1, base_delay: int = 0) -> None:
        """Define a flow of steps as ``step`` takes them."""
        self.rows("SELECT pgflow.create_flow(%s, %s, %s)", slug, max_attempts, base_delay)
        for step in steps:
            self.step(slug, step)

    def step(self, flow_slug: str, step: str, **options: object) -> None:
        """Add a step: ``name``, ``name <- dep dep`` or, for a map, ``name* <- dep``. ``options`` are those of
        add_step; a pattern is given as a dict."""
        name, _, deps = (part.strip() for part in step.partition("<-"))
        values = {key: Jsonb(value) if isinstance(value, dict) else value for key, value in options.items()}
        named = "".join(f", {key} => %s" for key in values)
        self.rows(
            f"SELECT pgflow.add_step(%s, %s, %s::text[], step_type => %s{named})",
            *(flow_slug, name.rstrip("*"), deps.split(), "map" if name.endswith("*") else "single"),
            *values.values(),
        )

    def start(self, flow_slug: str, input: object) -> UUID:
        """Start a run."""
        return UUID(
            str(self.row("SELECT run_id FROM pgflow.start_flow(%s, %s::jsonb)", flow_slug, json.dumps(input))["run_id"])
        )

    def register_worker(self) -> None:
        """The row that claims refer to."""
        self.rows(
            "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES (%s, 'test', 'test') "
            "ON CONFLICT DO NOTHING",
            self.worker_id,
        )

    def claim(self, flow_slug: str, quantity: int = 100) -> list[Claimed]:
        """Claim tasks, by step and index."""
        self.register_worker()
        rows = self.rows(
            "SELECT run_id, step_slug, task_index, attempt, msg_id, kind, input, timeout, max_attempts "
            "FROM pgflow.claim_tasks(ARRAY[%s], ARRAY[%s]::uuid[], %s) "
            "ORDER BY run_id, step_slug, task_index",
            *(flow_slug, self.worker_id, quantity),
        )
        return [Claimed(**{**row, "input": json.loads(row["input"])}) for row in rows]

    def complete(self, tasks: Sequence[Claimed], outputs: Sequence[object]) -> list[str]:
        """Complete a batch; the verdicts."""
        return self._settle("complete_tasks", "jsonb", tasks, [json.dumps(output) for output in outputs])

    def fail(
        self, tasks: Sequence[Claimed], errors: Sequence[str], delays: Sequence[int | None] | None = None
    ) -> list[str]:
        """Fail a batch; the verdicts. ``delays`` are as fail_tasks takes them."""
        more = ", retry_delays => %s::int[]" if delays is not None else ""
        return self._settle("fail_tasks", "text", tasks, list(errors), more, *([list(delays)] if delays else []))

    def release(self, tasks: Sequence[Claimed]) -> list[str]:
        """Release a batch; the verdicts."""
        rows = self.rows(
            "SELECT verdict FROM pgflow.release_tasks(%s::uuid[], %s::text[], %s::int[], %s::int[]) ORDER BY ordinal",
            *_keys(tasks),
            [task.attempt for task in tasks],
        )
        return [row["verdict"] for row in rows]

    def requeue(self, tasks: Sequence[Claimed], reason: str = "it died") -> list[str]:
        """Requeue a batch; the verdicts."""
        rows = self.rows(
            "SELECT verdict FROM pgflow.requeue_tasks(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::int[]) "
            "ORDER BY ordinal",
            *_keys(tasks),
            [reason] * len(tasks),
            [task.attempt for task in tasks],
        )
        return [row["verdict"] for row in rows]

    def renew(
        self, tasks: Sequence[Claimed], seconds: Sequence[int | None], worker_id: UUID | None = None
    ) -> list[str]:
        """Renew a batch, as held by that worker or by this one; the states."""
        rows = self.rows(
            "SELECT state FROM pgflow.renew_tasks("
            "%s::uuid[], %s::text[], %s::int[], %s::int[], %s::uuid[], %s::bigint[], %s::int[]) ORDER BY ordinal",
            *_keys(tasks),
            [task.attempt for task in tasks],
            [worker_id or self.worker_id] * len(tasks),
            [task.msg_id for task in tasks],
            list(seconds),
        )
        return [row["state"] for row in rows]

    def _settle(
        self, function: str, type: str, tasks: Sequence[Claimed], values: list[str], more: str = "", *rest: object
    ) -> list[str]:
        rows = self.rows(
            "SELECT verdict "
            f"FROM pgflow.{function}(%s::uuid[], %s::text[], %s::int[], %s::{type}[], %s::int[]{more}) "
            "ORDER BY ordinal",
            *(*_keys(tasks), values, [task.attempt for task in tasks], *rest),
        )
        return [row["verdict"] for row in rows]

    def run(self, run_id: UUID) -> Row:
        """A run's row."""
        return self.row("SELECT * FROM pgflow.runs WHERE run_id = %s", run_id)

    def state(self, run_id: UUID, step_slug: str) -> Row:
        """A step state's row."""
        return self.row("SELECT * FROM pgflow.step_states WHERE run_id = %s AND step_slug = %s", run_id, step_slug)

    def statuses(self, run_id: UUID) -> dict[str, str]:
        """The status of every step of a run."""
        rows = self.rows("SELECT step_slug, status FROM pgflow.step_states WHERE run_id = %s", run_id)
        return {row["step_slug"]: row["status"] for row in rows}

    def tasks(self, run_id: UUID) -> list[Row]:
        """A run's task rows, by step and index."""
        return self.rows("SELECT * FROM pgflow.step_tasks WHERE run_id = %s ORDER BY step_slug, task_index", run_id)

    def queue(self, flow_slug: str) -> list[Row]:
        """The messages of a flow's queue, with the seconds until each is visible."""
        return self.rows(
            "SELECT msg_id, message, extract(epoch FROM vt - clock_timestamp())::float AS visible_in "
            f"FROM pgmq.q_{flow_slug} ORDER BY msg_id"
        )

    def archived(self, flow_slug: str) -> int:
        """How many messages of the flow are in the archive."""
        return int(self.value(f"SELECT count(*) FROM pgmq.a_{flow_slug}"))


def _keys(tasks: Sequence[Claimed]) -> tuple[list[UUID], list[str], list[int]]:
    return [t.run_id for t in tasks], [t.step_slug for t in tasks], [t.task_index for t in tasks]


def while_waiting_for(core: Core, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Run ``first`` in an open transaction of ``core``, start ``second``, which must wait for its locks, then
    commit; the results of both."""
    with ThreadPoolExecutor(1) as thread:
        with core.connection.transaction():
            result = first()
            waiting: Future[Any] = thread.submit(second)
            wait_until(
                lambda: core.value("SELECT count(*) FROM pg_locks WHERE NOT granted"),
                "the other waits for a lock",
            )
        return result, waiting.result(20)
