"""What must hold in the database once nothing goes on any more, whoever was killed. Each statement gives the rows that
violate it; those that concern a task are shown with the task's history."""

from __future__ import annotations

ENDED = "SELECT run_id, flow_slug, status FROM pgflow.runs WHERE status = 'started'"
"""Every run has completed or failed."""

_SPENT = "('failed', 'timed_out', 'crashed', 'out_of_memory')"
_HISTORY = f"""
    SELECT
      t.*,
      greatest(1, coalesce(definition.opt_max_attempts, f.opt_max_attempts)) AS max_attempts,
      h.*
    FROM pgflow.step_tasks AS t
    JOIN pgflow.steps AS definition USING (flow_slug, step_slug)
    JOIN pgflow.flows AS f USING (flow_slug)
    CROSS JOIN LATERAL (
      SELECT
        count(*) FILTER (WHERE h.outcome = 'completed') AS completed,
        count(*) FILTER (WHERE h.outcome IN {_SPENT}) AS spent,
        count(*) FILTER (WHERE h.outcome = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE h.outcome = 'requeued') AS requeued,
        count(*) FILTER (WHERE h.outcome = 'stalled') AS stalled
      FROM pgflow.task_attempts AS h
      WHERE h.run_id = t.run_id AND h.step_slug = t.step_slug AND h.task_index = t.task_index
    ) AS h
"""
GIVEN_UP_AFTER = 3
"""A task that was requeued so often fails when it would have to be once more."""
# Whoever gives a task up writes one more row that counts as spent, whatever its attempts.
_IS_GIVEN_UP = f"(requeued >= {GIVEN_UP_AFTER} AND spent >= 1)"

STATEMENTS = {
    "the status of a run is that of its steps": """
        SELECT r.run_id, r.status, jsonb_object_agg(s.step_slug, s.status) AS steps
        FROM pgflow.runs AS r JOIN pgflow.step_states AS s USING (run_id)
        GROUP BY r.run_id
        HAVING (r.status = 'failed') <> bool_or(s.status = 'failed')
          OR r.status = 'completed' AND NOT bool_and(s.status = 'completed')
    """,
    "every task of a completed run has completed": """
        SELECT t.run_id, t.step_slug, t.task_index, t.status, t.attempts_count
        FROM pgflow.step_tasks AS t JOIN pgflow.runs AS r USING (run_id)
        WHERE r.status = 'completed' AND t.status <> 'completed'
    """,
    "runs.remaining_steps is exact": """
        SELECT r.run_id, r.status, r.remaining_steps, count(s.run_id)
        FROM pgflow.runs AS r
        LEFT JOIN pgflow.step_states AS s ON s.run_id = r.run_id AND s.status <> 'completed'
        GROUP BY r.run_id
        HAVING r.remaining_steps <> count(s.run_id)
    """,
    "step_states.remaining_deps is exact": """
        SELECT s.run_id, s.step_slug, s.status, s.remaining_deps, count(parent.run_id)
        FROM pgflow.step_states AS s
        LEFT JOIN pgflow.deps AS d ON d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
        LEFT JOIN pgflow.step_states AS parent
          ON parent.run_id = s.run_id AND parent.step_slug = d.dep_slug AND parent.status <> 'completed'
        GROUP BY s.run_id, s.step_slug
        HAVING s.remaining_deps <> count(parent.run_id)
    """,
    "step_states.remaining_tasks is exact, and its output that of its tasks": """
        SELECT s.run_id, s.step_slug, s.status, s.initial_tasks, s.remaining_tasks, s.output, t.*
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
        WHERE t.tasks <> CASE WHEN s.status = 'created' THEN 0 ELSE s.initial_tasks END
          OR s.status <> 'created' AND s.remaining_tasks <> s.initial_tasks - t.completed
          OR s.status = 'completed' AND s.output IS DISTINCT FROM
            CASE WHEN definition.step_type = 'map' THEN coalesce(t.outputs, '[]') ELSE t.outputs -> 0 END
    """,
    "no task has more attempts than it may": f"""
        SELECT run_id, step_slug, task_index, status, attempts_count, max_attempts, requeued
        FROM ({_HISTORY}) AS t
        WHERE attempts_count > max_attempts
    """,
    "a task that completed has one completion in its history, any other none": f"""
        SELECT run_id, step_slug, task_index, status, attempts_count, completed, output
        FROM ({_HISTORY}) AS t
        WHERE completed <> CASE WHEN status = 'completed' AND NOT coalesce(output ? '$error', false) THEN 1 ELSE 0 END
    """,
    "a task's count of attempts is what its history says": f"""
        SELECT run_id, step_slug, task_index, status, attempts_count, completed, spent, cancelled, requeued
        FROM ({_HISTORY}) AS t
        WHERE attempts_count <> completed + spent + cancelled
    """,
    "a task fails, or completes with its error, only when its attempts are spent": f"""
        SELECT t.run_id, t.step_slug, t.task_index, t.status, t.spent, t.max_attempts, t.requeued, t.output
        FROM ({_HISTORY}) AS t
        JOIN pgflow.step_states AS s USING (run_id, step_slug)
        WHERE (t.status = 'completed' AND t.output ? '$error' OR t.status = 'failed' AND t.cancelled = 0)
          AND t.spent <> t.max_attempts
          AND NOT {_IS_GIVEN_UP}
    """,
    "a step fails only with a task that failed": f"""
        SELECT s.run_id, s.step_slug, s.status, s.error_message
        FROM pgflow.step_states AS s
        WHERE s.status = 'failed' AND NOT EXISTS (
          SELECT FROM ({_HISTORY}) AS t
          WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug AND t.status = 'failed' AND t.cancelled = 0
            AND (t.spent = t.max_attempts OR {_IS_GIVEN_UP})
        )
    """,
    "no task has stalled for good": """
        SELECT t.run_id, t.step_slug, t.task_index, t.status, t.requeued_count, t.permanently_stalled_at
        FROM pgflow.step_tasks AS t
        WHERE t.permanently_stalled_at IS NOT NULL
    """,
    "no handler failed": """
        SELECT h.run_id, h.step_slug, h.task_index, h.attempt, h.outcome, h.error_message
        FROM pgflow.task_attempts AS h
        WHERE h.outcome IN ('failed', 'out_of_memory')
    """,
    "only what hangs times out": """
        SELECT h.run_id, h.step_slug, h.task_index, h.attempt, h.outcome, h.error_message
        FROM pgflow.task_attempts AS h
        WHERE h.outcome = 'timed_out' AND h.step_slug <> 'hang'
    """,
}


def of_queue(flow_slug: str) -> dict[str, str]:
    """The statements for the queue of a flow, whose runs have all ended."""
    return {
        f"the queue of {flow_slug} is empty": f"""
            SELECT q.msg_id, q.read_ct, q.vt, q.message ->> 'run_id' AS run_id, q.message ->> 'step_slug' AS step_slug,
              (q.message ->> 'task_index')::int AS task_index
            FROM pgmq.q_{flow_slug} AS q
        """,
        f"every message of {flow_slug} is archived once": f"""
            SELECT t.run_id, t.step_slug, t.task_index, t.status, t.message_id, a.copies
            FROM pgflow.step_tasks AS t
            CROSS JOIN LATERAL (
              SELECT count(*) AS copies FROM pgmq.a_{flow_slug} AS a WHERE a.msg_id = t.message_id
            ) AS a
            WHERE t.flow_slug = '{flow_slug}' AND a.copies <> 1
        """,
        f"no message of {flow_slug} is without a task": f"""
            SELECT a.msg_id, a.message
            FROM pgmq.a_{flow_slug} AS a
            WHERE NOT EXISTS (
              SELECT FROM pgflow.step_tasks AS t WHERE t.message_id = a.msg_id AND t.flow_slug = '{flow_slug}'
            )
        """,
    }
