-- Runs, newest first, with how many of their steps have ended and why the first that failed did.
SELECT
  r.run_id::text AS run_id,
  r.flow_slug,
  r.status,
  r.started_at,
  coalesce(r.completed_at, r.failed_at) AS ended_at,
  extract(epoch FROM coalesce(r.completed_at, r.failed_at, greatest(now(), r.started_at)) - r.started_at)::float AS seconds,
  s.steps,
  s.ended_steps,
  f.step_slug AS failed_step,
  f.error_message
FROM (
  SELECT k.run_id, k.flow_slug, k.status, k.started_at, k.completed_at, k.failed_at
  FROM pgflow.runs AS k
  WHERE (%(flow_slug)s::text IS NULL OR k.flow_slug = %(flow_slug)s)
    AND (%(status)s::text IS NULL OR k.status = %(status)s)
    AND (%(run_id)s::uuid IS NULL OR k.run_id = %(run_id)s::uuid)
  ORDER BY k.started_at DESC, k.run_id
  LIMIT %(limit)s
) AS r
CROSS JOIN LATERAL (
  SELECT count(*) AS steps, count(*) FILTER (WHERE s.status IN ('completed', 'skipped')) AS ended_steps
  FROM pgflow.step_states AS s
  WHERE s.run_id = r.run_id
) AS s
LEFT JOIN LATERAL (
  SELECT s.step_slug, left(s.error_message, 300) AS error_message
  FROM pgflow.step_states AS s
  WHERE s.run_id = r.run_id AND s.status = 'failed'
  ORDER BY s.failed_at, s.step_slug
  LIMIT 1
) AS f ON r.status = 'failed'
ORDER BY r.started_at DESC, r.run_id
