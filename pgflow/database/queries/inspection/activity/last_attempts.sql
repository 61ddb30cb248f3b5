-- As `attempts`, on a core without a history: the tasks that have ended since, and what their last attempt was.
SELECT
  k.flow_slug,
  k.run_id::text AS run_id,
  k.step_slug,
  k.task_index,
  t.attempt,
  t.outcome,
  t.worker_id,
  t.started_at,
  t.ended_at,
  NULL::float AS elapsed,
  t.error_message
FROM unnest(%(flow_slugs)s::text[], %(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[])
  AS k (flow_slug, run_id, step_slug, task_index)
CROSS JOIN LATERAL (
  SELECT
    t.attempts_count AS attempt,
    t.status AS outcome,
    t.last_worker_id::text AS worker_id,
    t.started_at,
    coalesce(t.completed_at, t.failed_at) AS ended_at,
    left(t.error_message, 300) AS error_message
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = k.run_id
    AND t.step_slug = k.step_slug
    AND t.task_index = k.task_index
    AND coalesce(t.completed_at, t.failed_at) > %(since)s
  OFFSET 0
) AS t
