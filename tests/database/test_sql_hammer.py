"""The SQL core under eight connections that claim, renew, complete, fail, release and requeue overlapping batches, by the contract's
calls and by ours, while runs are started, cancelled and retried and stalled tasks requeued.

PGFLOW_HAMMER_SECONDS says for how long; 30 and more to look for what is rare.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.support.sql import Core, Row

SECONDS = float(os.environ.get("PGFLOW_HAMMER_SECONDS", "3"))
CONNECTIONS = 8
SECONDS_TO_DRAIN = 60
RUNS_OF_A_WAVE = 3
ELEMENTS = 12


@dataclass(frozen=True)
class Held:
    """A task in the attempt in which it was claimed."""

    run_id: UUID
    step_slug: str
    task_index: int
    attempt: int | None  # the contract's claim does not tell it

    @property
    def key(self) -> tuple[UUID, str, int]:
        """The task's primary key."""
        return self.run_id, self.step_slug, self.task_index


class Waves:
    """Which runs to start next, so that those who find nothing to claim start the same ones at once."""

    def __init__(self) -> None:
        self.next = 0
        self._lock = threading.Lock()

    def passed(self, wave: int) -> None:
        """Somebody has started the runs of a wave."""
        with self._lock:
            self.next = max(self.next, wave + 1)


class Hammer:
    """One connection's work. What it completed is in ``completed``, each with a token of its own as the output."""

    def __init__(self, url: str, number: int, waves: Waves) -> None:
        self.core = Core(url)
        self.number = number
        self.waves = waves
        self.chance = random.Random(number)
        self.completed: list[tuple[tuple[UUID, str, int], str]] = []
        self.verdicts: Counter[str] = Counter()
        self.claims = 0

    def work(self, until: float, stop: threading.Event) -> None:
        """Make trouble until then, and go on without making trouble until everything has ended."""
        with self.core.connection:
            self.core.register_worker()
            try:
                while time.monotonic() < until and not stop.is_set():
                    tasks = self.claim()
                    self.settle_all(tasks, self.settle_somehow)
                    if not tasks or self.chance.random() < 0.1:
                        self.start_runs()
                    if self.chance.random() < 0.1:
                        self.requeue_some()
                    if self.chance.random() < 0.05:
                        self.intervene()
                self.drain(stop)
            except BaseException:
                stop.set()
                raise

    def drain(self, stop: threading.Event) -> None:
        """Complete and fail until no run goes on."""
        deadline = time.monotonic() + SECONDS_TO_DRAIN
        while not stop.is_set() and self.core.value("SELECT EXISTS (SELECT FROM pgflow.runs WHERE status = 'started')"):
            assert time.monotonic() < deadline, self.core.rows(
                "SELECT status, message_id, step_slug, task_index, attempts_count, requeued_count "
                "FROM pgflow.step_tasks WHERE status IN ('queued', 'started') LIMIT 10"
            )
            self.settle_all(self.claim(), self.complete_batch)

    def claim(self) -> list[Held]:
        """Claim a batch in one of the two ways."""
        quantity = self.chance.choice([3, 17, 40])
        if self.chance.random() < 0.6:
            rows = self.core.rows(
                "SELECT run_id, step_slug, task_index, attempt "
                "FROM pgflow.claim_tasks(ARRAY['f'], ARRAY[%s]::uuid[], %s)",
                self.core.worker_id,
                quantity,
            )
        else:
            messages = self.core.rows("SELECT msg_id FROM pgmq.read('f', 2, %s)", quantity)
            rows = self.core.rows(
                "SELECT run_id, step_slug, task_index, NULL AS attempt FROM pgflow.start_tasks('f', %s::bigint[], %s)",
                self.shuffled([message["msg_id"] for message in messages]),
                self.core.worker_id,
            )
        self.claims += len(rows)
        return [Held(**row) for row in rows]

    def settle_all(self, tasks: Sequence[Held], settle: Callable[[list[Held]], None]) -> None:
        """Settle what was claimed, in batches of any order."""
        tasks = self.shuffled(tasks)
        if self.chance.random() < 0.3:
            self.renew(tasks)
        for position in range(0, len(tasks), 6):
            settle(tasks[position : position + 6])

    def settle_somehow(self, tasks: list[Held]) -> None:
        """Settle a batch in one of all the ways there are."""
        kind = self.chance.random()
        if kind < 0.5:
            self.complete_batch(tasks)
        elif kind < 0.65:
            for task in tasks:
                self.complete_one(task)
        elif kind < 0.8:
            self.settle_batch("fail_tasks", "error_messages => %s", tasks, ["again"] * len(tasks))
        elif kind < 0.83:
            self.settle_batch("requeue_tasks", "reasons => %s", tasks, ["its worker died"] * len(tasks))
        elif kind < 0.87:
            for task in tasks:
                self.core.rows("SELECT FROM pgflow.fail_task(%s, %s, %s, 'again')", *task.key)
        else:
            self.settle_batch("release_tasks", "", tasks)

    def renew(self, tasks: list[Held]) -> None:
        """Keep the messages of what was claimed invisible, by whatever message each task has; and maybe of some more."""
        self.core.rows(
            """
            SELECT r.state
            FROM (
              SELECT
                array_agg(t.run_id) AS run_ids, array_agg(t.step_slug) AS step_slugs, array_agg(t.task_index) AS indexes,
                array_agg(t.attempts_count) AS attempts, array_agg(t.message_id) AS message_ids
              FROM (
                SELECT * FROM pgflow.step_tasks WHERE run_id = ANY(%s::uuid[]) AND status = 'started' ORDER BY random()
              ) AS t
            ) AS m
            CROSS JOIN LATERAL pgflow.renew_tasks(
              m.run_ids, m.step_slugs, m.indexes, m.attempts, NULL, m.message_ids,
              array_fill(2, ARRAY[coalesce(cardinality(m.run_ids), 0)])
            ) AS r
            """,
            [task.run_id for task in tasks],
        )

    def complete_batch(self, tasks: list[Held]) -> None:
        """Complete with complete_tasks."""
        outputs = [self.output(task) for task in tasks]
        verdicts = self.settle_batch("complete_tasks", "outputs => %s::jsonb[]", tasks, [Jsonb(o) for o in outputs])
        self.completed += [
            (task.key, token(output))
            for task, output, verdict in zip(tasks, outputs, verdicts, strict=True)
            if verdict == "completed"
        ]

    def complete_one(self, task: Held) -> None:
        """Complete with complete_task, which says only what the row is afterwards."""
        output = self.output(task)
        rows = self.core.rows("SELECT output FROM pgflow.complete_task(%s, %s, %s, %s)", *task.key, Jsonb(output))
        if rows[0]["output"] == output:
            self.completed.append((task.key, token(output)))

    def output(self, task: Held) -> list[str]:
        """An output that nobody else has and that can feed a map."""
        self.claims += 1
        return [f"{self.number}-{self.claims}-{task.step_slug}-{task.task_index}"] * (task.task_index + 2)

    def settle_batch(self, function: str, named: str, tasks: list[Held], *values: Sequence[object]) -> list[str]:
        """Call a function of a batch; fenced by the attempts that are known."""
        rows = self.core.rows(
            f"SELECT verdict FROM pgflow.{function}(run_ids => %s::uuid[], step_slugs => %s::text[], "
            f"task_indexes => %s::int[], attempts => %s::int[]{', ' if named else ''}{named}) ORDER BY ordinal",
            [task.run_id for task in tasks],
            [task.step_slug for task in tasks],
            [task.task_index for task in tasks],
            [task.attempt for task in tasks],
            *(list(value) for value in values),
        )
        verdicts = [row["verdict"] for row in rows]
        self.verdicts.update(f"{function}: {verdict}" for verdict in verdicts)
        return verdicts

    def start_runs(self) -> None:
        """Start the runs of the next wave, unless as many go on as make sense."""
        going_on = self.core.value("SELECT count(*) FROM pgflow.runs WHERE status = 'started'")
        if going_on < 2 * RUNS_OF_A_WAVE:
            wave = self.waves.next
            keys = self.shuffled([f"{wave}-{number}" for number in range(RUNS_OF_A_WAVE)])
            inputs = [Jsonb(list(range(ELEMENTS)))] * len(keys)
            rows = self.core.rows("SELECT is_new FROM pgflow.start_flows('f', %s::jsonb[], %s)", inputs, keys)
            self.verdicts.update(f"start_flows: {'new' if row['is_new'] else 'there'}" for row in rows)
            self.waves.passed(wave)

    def requeue_some(self) -> None:
        """Tasks that others work on look stalled, and are requeued; none so often that it would stay so."""
        self.core.rows(
            """
            UPDATE pgflow.step_tasks
            SET started_at = now() - interval '2 h', queued_at = now() - interval '2 h'
            WHERE (run_id, step_slug, task_index) IN (
              SELECT run_id, step_slug, task_index FROM pgflow.step_tasks
              WHERE status = 'started' AND requeued_count < 3 LIMIT 5 FOR UPDATE SKIP LOCKED
            )
            """
        )
        self.verdicts["requeued"] += self.core.value("SELECT pgflow.requeue_stalled_tasks()")

    def intervene(self) -> None:
        """Cancel a run, or let one go on that has failed."""
        function, status = self.chance.choice([("cancel_run", "started"), ("retry_run", "failed")])
        runs = self.core.rows("SELECT run_id FROM pgflow.runs WHERE status = %s ORDER BY run_id", status)
        if runs:
            run_id = self.chance.choice(runs)["run_id"]
            self.verdicts[f"{function}: " + self.core.value(f"SELECT pgflow.{function}(%s)", run_id)] += 1

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        """Values in another order."""
        return self.chance.sample(values, len(values))


def token(output: Sequence[str]) -> str:
    """What names the completion in an output."""
    return output[0]


def hammer(core: Core) -> list[Hammer]:
    """Define a flow, let all connections do their work, and say what they did; an error of one is the test's."""
    core.flow("f", "m*", "list", "n* <- m", "o* <- list", "both <- m n", max_attempts=50)
    core.step("f", "fragile <- m", max_attempts=1, when_exhausted="skip")
    core.step("f", "behind* <- fragile")
    core.step("f", "wild* <- m", max_attempts=3, when_exhausted="skip-cascade")
    core.step("f", "gone <- wild o", forbidden_input_pattern={"o": []})
    core.step("f", "costly <- n", max_attempts=2, when_exhausted="fail")
    core.step("f", "never <- both", required_input_pattern={"both": {}}, when_unmet="skip-cascade")
    core.step("f", "nor <- never list")
    waves, stop = Waves(), threading.Event()
    hammers = [Hammer(core.url, number, waves) for number in range(CONNECTIONS)]
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        working = [threads.submit(hammer.work, until, stop) for hammer in hammers]
    errors = [str(error) for future in working if (error := future.exception())]
    assert errors == []
    return hammers


@pytest.mark.timeout(120 + SECONDS + SECONDS_TO_DRAIN)
def test_overlapping_batches_neither_deadlock_nor_miscount(core: Core) -> None:
    hammered = hammer(core)
    assert_every_run_has_ended(core)
    assert_counters_are_exact(core)
    assert_each_task_completed_once(core, hammered)
    assert_messages_are_archived(core)
    happened = sum((hammer.verdicts for hammer in hammered), Counter())
    assert happened["complete_tasks: completed"] > 100, happened
    assert happened["start_flows: new"] == core.value("SELECT count(*) FROM pgflow.runs"), happened


def assert_every_run_has_ended(core: Core) -> None:
    """Runs have completed, or failed with a step; of those that were cancelled, with all that had started."""
    assert none_of(core, "SELECT * FROM pgflow.runs WHERE status = 'started'")
    assert none_of(
        core,
        """
        SELECT r.run_id, r.status, array_agg(s.step_slug) FILTER (WHERE s.status = 'failed') AS failed
        FROM pgflow.runs AS r JOIN pgflow.step_states AS s USING (run_id)
        GROUP BY r.run_id
        HAVING (r.status = 'failed') <> bool_or(s.status = 'failed')
          OR r.status = 'completed' AND NOT bool_and(s.status IN ('completed', 'skipped'))
        """,
    )


def assert_counters_are_exact(core: Core) -> None:
    """What counts rows says as many as there are."""
    assert none_of(
        core,
        """
        SELECT r.run_id, r.remaining_steps, count(s.run_id)
        FROM pgflow.runs AS r
        LEFT JOIN pgflow.step_states AS s ON s.run_id = r.run_id AND s.status NOT IN ('completed', 'skipped')
        GROUP BY r.run_id
        HAVING r.remaining_steps <> count(s.run_id)
        """,
    )
    # Who is skipped with a dependency still waits for it.
    assert none_of(
        core,
        """
        SELECT s.run_id, s.step_slug, s.remaining_deps, count(parent.run_id)
        FROM pgflow.step_states AS s
        LEFT JOIN pgflow.deps AS d ON d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
        LEFT JOIN pgflow.step_states AS parent
          ON parent.run_id = s.run_id AND parent.step_slug = d.dep_slug
          AND parent.status NOT IN ('completed', 'skipped')
        WHERE s.skip_reason IS DISTINCT FROM 'dependency_skipped'
        GROUP BY s.run_id, s.step_slug
        HAVING s.remaining_deps <> count(parent.run_id)
        """,
    )
    assert none_of(
        core,
        """
        SELECT s.run_id, s.step_slug, s.status, s.initial_tasks, s.remaining_tasks, t.*
        FROM pgflow.step_states AS s
        CROSS JOIN LATERAL (
          SELECT
            count(*) AS tasks,
            count(*) FILTER (WHERE t.status = 'completed') AS completed,
            jsonb_agg(t.output ORDER BY t.task_index) AS outputs
          FROM pgflow.step_tasks AS t
          WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug
        ) AS t
        JOIN pgflow.steps AS definition ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        WHERE t.tasks <> CASE
            WHEN s.status IN ('started', 'completed', 'failed') OR s.started_at IS NOT NULL THEN s.initial_tasks
            ELSE 0
          END
          OR s.status IN ('started', 'completed', 'failed') AND s.remaining_tasks <> s.initial_tasks - t.completed
          OR s.status = 'completed' AND s.output IS DISTINCT FROM
            CASE WHEN definition.step_type = 'map' THEN coalesce(t.outputs, '[]') ELSE t.outputs -> 0 END
        """,
    )


def assert_each_task_completed_once(core: Core, hammered: list[Hammer]) -> None:
    """Each completed task has the output of the one claim whose completion counted, and one such attempt in its
    history."""
    told = [completion for hammer in hammered for completion in hammer.completed]
    rows = core.rows("SELECT run_id, step_slug, task_index, output FROM pgflow.step_tasks WHERE status = 'completed'")
    stored = [((row["run_id"], row["step_slug"], row["task_index"]), token(row["output"])) for row in rows]
    assert Counter(told) == Counter(stored)
    assert none_of(
        core,
        """
        SELECT t.run_id, t.step_slug, t.task_index, t.status, t.attempts_count, h.*
        FROM pgflow.step_tasks AS t
        CROSS JOIN LATERAL (
          SELECT count(*) FILTER (WHERE h.outcome = 'completed') AS completed, max(h.attempt) AS last_attempt
          FROM pgflow.task_attempts AS h
          WHERE h.run_id = t.run_id AND h.step_slug = t.step_slug AND h.task_index = t.task_index
        ) AS h
        WHERE h.completed <> CASE t.status WHEN 'completed' THEN 1 ELSE 0 END
        """,
    )
    assert none_of(
        core,
        """
        SELECT t.* FROM pgflow.step_tasks AS t
        JOIN pgflow.step_states AS s USING (run_id, step_slug)
        WHERE t.status IN ('queued', 'started') AND s.status NOT IN ('started', 'failed')
          OR t.status = 'skipped' AND s.status <> 'skipped'
        """,
    )


def assert_messages_are_archived(core: Core) -> None:
    """Every task's message is in the archive, with those from before its run was retried; nothing is in the queue."""
    assert core.queue("f") == []
    assert none_of(
        core,
        """
        SELECT t.run_id, t.step_slug, t.task_index, t.message_id
        FROM pgflow.step_tasks AS t
        LEFT JOIN pgmq.a_f AS m ON m.msg_id = t.message_id AND m.message = jsonb_build_object(
          'flow_slug', t.flow_slug, 'run_id', t.run_id, 'step_slug', t.step_slug, 'task_index', t.task_index
        )
        WHERE m.msg_id IS NULL
        """,
    )
    assert core.value("SELECT count(*) = max(msg_id) FROM pgmq.a_f")


def none_of(core: Core, statement: str) -> bool:
    """Whether a statement has no rows; those it has are shown."""
    rows: list[Row] = core.rows(statement)
    assert rows[:5] == []
    return not rows
