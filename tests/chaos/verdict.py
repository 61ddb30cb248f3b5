"""What came of it all, and whether that is right."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.chaos import expectation, invariants
from tests.chaos.driver import Started
from tests.chaos.notes import Execution, Task

Row = dict[str, Any]
SHOWN_ROWS = 5
ENDINGS = (
    "completed",
    "failed",
    "timed_out",
    "crashed",
    "out_of_memory",
    "cancelled",
    "released",
    "requeued",
    "stalled",
)


@dataclass
class Verdict:
    """Looks into the database; ``violations`` is everything that is wrong, in words."""

    connection: psycopg.Connection[Row]
    started: Sequence[Started]
    notes: Mapping[Task, Sequence[Execution]]
    killed: frozenset[int]

    @classmethod
    def connect(cls, url: str) -> psycopg.Connection[Row]:
        """A connection to look with."""
        return psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def rows(self, statement: str, *parameters: object) -> list[Row]:
        """The rows of a statement."""
        return self.connection.execute(statement.encode(), parameters).fetchall()

    def violations(self) -> list[str]:
        """Everything that is wrong."""
        statements = dict(invariants.STATEMENTS)
        for slug in expectation.FLOWS:
            statements |= invariants.of_queue(slug)
        found = {what: self.rows(statement) for what, statement in statements.items()}
        found["every run that was started is there, once"] = list(self._lost_runs())
        found["every completed run has its tasks and its output"] = list(self._wrong_runs())
        found["a task is executed at most once for each row of its history"] = list(self._unaccounted_executions())
        found["what completed was executed to its end, in that attempt"] = list(self._unexecuted_completions())
        found["a task runs twice at a time only if it was requeued"] = list(self._overlaps())
        found["only who was killed has crashed"] = list(self._unexplained_crashes())
        return [self.shown(what, rows) for what, rows in found.items() if rows]

    def summary(self) -> dict[str, int]:
        """How many runs came to what, and attempts."""
        runs = self.rows("SELECT 'runs ' || status AS what, count(*) AS n FROM pgflow.runs GROUP BY 1 ORDER BY 1")
        attempts = self.rows("SELECT outcome AS what, count(*) AS n FROM pgflow.task_attempts GROUP BY 1 ORDER BY 1")
        executions = sum(len(executions) for executions in self.notes.values())
        return {row["what"]: row["n"] for row in (*runs, *attempts)} | {"executions": executions}

    def shown(self, what: str, rows: Sequence[Row]) -> str:
        """A violation in words, with the history of what it is about."""
        lines = [f"VIOLATED, {len(rows)} times: {what}"]
        for row in rows[:SHOWN_ROWS]:
            lines.append(f"  {_in_words(row)}")
            lines += [f"      {line}" for line in self._history(row)]
        return "\n".join(lines)

    def _history(self, row: Row) -> Iterator[str]:
        """The history of the task, or of all the run's tasks, and the notes of it."""
        if "run_id" not in row:
            return
        yield from (_in_words(run) for run in self.rows("SELECT * FROM pgflow.runs WHERE run_id = %s", row["run_id"]))
        key = (str(row["run_id"]), row.get("step_slug"), row.get("task_index"))
        for table, order in (("step_tasks", "step_slug, task_index"), ("task_attempts", "attempt_id")):
            for found in self.rows(
                f"SELECT * FROM pgflow.{table} WHERE run_id = %s AND coalesce(step_slug = %s, true) "
                f"AND coalesce(task_index = %s, true) ORDER BY {order} LIMIT 40",
                *key,
            ):
                yield f"{table}: {_in_words(found)}"
        for execution in self.notes.get((key[0], str(key[1]), -1 if key[2] is None else key[2]), ()):
            yield f"{execution} {'KILLED' if execution.pid in self.killed else ''}"

    def _lost_runs(self) -> Iterator[Row]:
        keyed = {(row["flow_slug"], row["key"]) for row in self.rows("SELECT flow_slug, key FROM pgflow.run_keys")}
        wanted = {(run.flow_slug, run.key) for run in self.started}
        yield from ({"lost": key} for key in wanted - keyed)
        yield from ({"surplus": key} for key in keyed - wanted)
        yield from self.rows(
            "SELECT r.run_id, r.flow_slug, count(k.key) AS keys FROM pgflow.runs AS r "
            "LEFT JOIN pgflow.run_keys AS k USING (run_id) GROUP BY r.run_id HAVING count(k.key) <> 1"
        )

    def _wrong_runs(self) -> Iterator[Row]:
        sizes = {(run.flow_slug, run.key): run.size for run in self.started}
        for run in self.rows(
            """
            SELECT r.run_id, r.flow_slug, k.key, r.output, (
                SELECT jsonb_object_agg(s.step_slug, (
                  SELECT count(*) FROM pgflow.step_tasks AS t WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug
                ))
                FROM pgflow.step_states AS s WHERE s.run_id = r.run_id
              ) AS tasks, (
                SELECT s.output FROM pgflow.step_states AS s WHERE s.run_id = r.run_id AND s.step_slug = 'square'
              ) AS squares
            FROM pgflow.runs AS r JOIN pgflow.run_keys AS k USING (run_id)
            WHERE r.status = 'completed'
            """
        ):
            size = sizes.get((run["flow_slug"], run["key"]), 0)
            squares = run.pop("squares")
            output = expectation.output(run["flow_slug"], size, squares if isinstance(squares, list) else None)
            tasks = expectation.FLOWS[run["flow_slug"]].tasks(size)
            if (run["output"], run["tasks"]) != (output, tasks):
                yield {**run, "right_output": output, "right_tasks": tasks}

    def _attempts(self) -> dict[Task, list[Row]]:
        """The history of each task."""
        by_task: dict[Task, list[Row]] = defaultdict(list)
        for row in self.rows("SELECT * FROM pgflow.task_attempts ORDER BY attempt_id"):
            by_task[str(row["run_id"]), row["step_slug"], row["task_index"]].append(row)
        return by_task

    def _unaccounted_executions(self) -> Iterator[Row]:
        attempts = self._attempts()
        for task, executions in self.notes.items():
            if len(executions) > len(attempts[task]):
                yield {**_key(task), "executions": len(executions), "history": len(attempts[task])}

    def _unexecuted_completions(self) -> Iterator[Row]:
        for task, rows in self._attempts().items():
            ended = Counter(execution.attempt for execution in self.notes.get(task, ()) if execution.end is not None)
            yield from (
                {**_key(task), "attempt": row["attempt"], "ended": dict(ended)}
                for row in rows
                if row["outcome"] == "completed" and not ended[row["attempt"]]
            )

    def _overlaps(self) -> Iterator[Row]:
        attempts = self._attempts()
        for task, executions in self.notes.items():
            was_requeued = any(row["outcome"] == "requeued" for row in attempts[task])
            for earlier, later in itertools.pairwise(executions):
                if earlier.end is not None and later.begin < earlier.end and not was_requeued:
                    yield {**_key(task), "earlier": earlier, "later": later}

    def _unexplained_crashes(self) -> Iterator[Row]:
        crashed = 0
        for task, rows in self._attempts().items():
            for row in rows:
                if row["outcome"] != "crashed" or "exit_code" not in (row["evidence"] or {}):
                    continue
                crashed += 1
                of_attempt = [e.pid for e in self.notes.get(task, ()) if e.attempt == row["attempt"]]
                if of_attempt and not self.killed.intersection(of_attempt):
                    yield {**_key(task), "attempt": row["attempt"], "pids": of_attempt}
        if crashed > len(self.killed):
            yield {"crashed": crashed, "killed": len(self.killed)}


def _key(task: Task) -> Row:
    run_id, step_slug, task_index = task
    return {"run_id": run_id, "step_slug": step_slug, "task_index": task_index}


def _in_words(row: Row) -> str:
    return ", ".join(f"{name}={str(value)[:200]!r}" for name, value in row.items() if value is not None)
