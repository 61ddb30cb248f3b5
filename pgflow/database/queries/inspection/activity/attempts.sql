-- The attempts of some tasks that have ended since.
SELECT
  k.flow_slug,
  k.run_id::text AS run_id,
  k.step_slug,
  k.task_index,
  a.attempt,
  a.outcome,
  a.worker_id,
  a.started_at,
  a.ended_at,
  a.elapsed,
  a.error_message
FROM unnest(%(flow_slugs)s::text[], %(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[])
  AS k (flow_slug, run_id, step_slug, task_index)
CROSS JOIN LATERAL (
  SELECT
    a.attempt,
    a.outcome,
    a.worker_id::text AS worker_id,
    a.started_at,
    a.ended_at,
    (a.evidence ->> 'elapsed_seconds')::float AS elapsed,
    left(a.error_message, 300) AS error_message
  FROM pgflow.task_attempts AS a
  WHERE a.run_id = k.run_id
    AND a.step_slug = k.step_slug
    AND a.task_index = k.task_index
    AND a.ended_at > %(since)s
  OFFSET 0
) AS a
