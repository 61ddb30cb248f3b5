"""Starting flows and reading what became of them, in tests with a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from pgflow import Worker
from pgflow.database import Database
from pgflow.database.flows import compile_flow
from pgflow.reference import load_flow
from tests.support.waiting import wait_until

ARITHMETIC = "tests.flows.arithmetic:flow"
FALSY = "tests.flows.arithmetic:falsy"
HOSTILE = "tests.flows.hostile:flow"
RUN_TIMEOUT_SECONDS = 30


class Runs:
    """Runs in a test's database, by plain SQL."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self.connection = connection

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """The rows of a statement, if it has any."""
        cursor = self.connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def start(self, flow_slug: str, input: object) -> str:
        """Start a run; its id."""
        (run,) = self.query("SELECT run_id::text FROM pgflow.start_flow(%s, %s::jsonb)", flow_slug, json.dumps(input))
        return str(run["run_id"])

    def status(self, run_id: str) -> str:
        """The run's status."""
        (run,) = self.query("SELECT status FROM pgflow.runs WHERE run_id = %s", run_id)
        return str(run["status"])

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """The run's tasks, by step and index."""
        return self.query("SELECT * FROM pgflow.step_tasks WHERE run_id = %s ORDER BY step_slug, task_index", run_id)

    def finish(self, run_id: str) -> dict[str, Any]:
        """The run's row, once it is no longer started."""
        wait_until(lambda: self.status(run_id) != "started", f"run {run_id} ends", RUN_TIMEOUT_SECONDS)
        (run,) = self.query("SELECT * FROM pgflow.runs WHERE run_id = %s", run_id)
        return run

    def workers(self) -> list[dict[str, Any]]:
        """The workers' rows."""
        return self.query("SELECT * FROM pgflow.workers ORDER BY started_at, worker_id")


def run_hostile(runs: Runs, step_slug: str, input: object = None) -> str:
    """A run of the hostile flow in which only ``step_slug``, and the innocent neighbour, are started."""
    (run,) = runs.query(
        """
        WITH run AS (
          INSERT INTO pgflow.runs (flow_slug, input, remaining_steps) VALUES ('hostile', %s::jsonb, 1)
          RETURNING run_id
        ), state AS (
          INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, initial_tasks)
          SELECT 'hostile', run_id, %s, 1 FROM run RETURNING run_id
        )
        SELECT run_id::text FROM state
        """,
        json.dumps(input),
        step_slug,
    )
    runs.query("SELECT pgflow.start_ready_steps(%s)", run["run_id"])
    return str(run["run_id"])


@contextmanager
def runs_in(database_url: str) -> Iterator[Runs]:
    """Runs in the database, on a connection of the test's own."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        yield Runs(connection)


def compile_by_reference(database: Database, reference: str) -> str:
    """Compile a flow without a worker; its slug."""
    flow = load_flow(reference)
    compile_flow(database, flow.slug, json.dumps(flow.shape()))
    return flow.slug


def dispatcher_of(worker: Worker) -> psutil.Process:
    """The dispatcher process."""
    assert worker._process is not None
    return psutil.Process(worker._process.pid)
