"""Completed tasks of other runs, to be in the tables while something is measured."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg

from pgflow import codec
from pgflow.bench.site import delete_flows, vacuum
from pgflow.database import Database, flows
from pgflow.flow import Flow

OTHERS = tuple(f"bench_core_other_{number}" for number in range(10))
"""The flows of these rows. Each numbers its messages from 1, as every queue does."""
RUN_TASKS = 10

_STATEMENTS = (
    """
    INSERT INTO pgflow.runs (run_id, flow_slug, status, input, output, remaining_steps, completed_at)
    SELECT
      md5(%(flow)s::text || n)::uuid, %(flow)s, 'completed', i.input, jsonb_build_object('element', i.input), 0, now()
    FROM generate_series(0, (%(tasks)s::int - 1) / %(run_tasks)s) AS n
    CROSS JOIN LATERAL (
      SELECT jsonb_agg(e) AS input FROM generate_series(1, least(%(run_tasks)s, %(tasks)s - n * %(run_tasks)s)) AS e
    ) AS i
    """,
    """
    INSERT INTO pgflow.step_states (
      flow_slug, run_id, step_slug, status, remaining_tasks, initial_tasks, started_at, completed_at, output
    )
    SELECT r.flow_slug, r.run_id, 'element', 'completed', 0, jsonb_array_length(r.input), now(), now(), r.input
    FROM pgflow.runs AS r
    WHERE r.flow_slug = %(flow)s
    """,
    """
    INSERT INTO pgflow.step_tasks (
      flow_slug, run_id, step_slug, message_id, task_index, status, attempts_count, output, started_at, completed_at
    )
    SELECT
      %(flow)s, md5(%(flow)s::text || n / %(run_tasks)s)::uuid, 'element', n + 1, n %% %(run_tasks)s,
      'completed', 1, to_jsonb(n %% %(run_tasks)s + 1), now(), now()
    FROM generate_series(0, %(tasks)s::int - 1) AS n
    """,
    """
    INSERT INTO pgflow.task_attempts (run_id, step_slug, task_index, attempt, outcome, started_at, ended_at)
    SELECT t.run_id, t.step_slug, t.task_index, t.attempts_count, 'completed', t.started_at, t.completed_at
    FROM pgflow.step_tasks AS t
    WHERE t.flow_slug = %(flow)s
    """,
)


def make_other_rows(database: Database, connection: psycopg.Connection[Any], count: int) -> None:
    """Put ``count`` completed tasks, each with its attempt, into the tables in place of those that are there, and bring
    the statistics up to date."""
    delete_flows(connection, OTHERS)
    for number, slug in enumerate(OTHERS[:count]):
        flow = Flow(slug, max_attempts=1, timeout=600)
        flow.map(slug="element")(never_called)
        flows.require_compiled(database, slug, codec.encode(flow.shape()))
        share = count // len(OTHERS) + (number < count % len(OTHERS))
        with connection.transaction():
            for statement in _STATEMENTS:
                connection.execute(statement, {"flow": slug, "tasks": share, "run_tasks": RUN_TASKS})
    vacuum(connection, analyze=True)
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("CHECKPOINT")  # else what is measured next shares the disk with it


def never_called(_input: object) -> None:
    """The handler of flows whose tasks are claimed and completed without any pool process."""
    raise AssertionError("no process runs tasks of this flow")
