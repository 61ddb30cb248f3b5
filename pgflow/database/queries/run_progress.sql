SELECT
  s.step_slug,
  definition.step_type AS kind,
  s.status,
  s.initial_tasks,
  coalesce(t.queued, 0) AS queued,
  coalesce(t.started, 0) AS started,
  CASE WHEN s.status = 'completed' THEN s.initial_tasks ELSE coalesce(t.completed, 0) END AS completed,
  coalesce(t.failed, 0) AS failed,
  coalesce(t.retries, 0) AS retries,
  s.error_message
FROM pgflow.step_states AS s
JOIN pgflow.steps AS definition
  ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
-- The tasks of a completed step need not be counted: all of them are completed.
LEFT JOIN LATERAL (
  SELECT
    count(*) FILTER (WHERE t.status = 'queued') AS queued,
    count(*) FILTER (WHERE t.status = 'started') AS started,
    count(*) FILTER (WHERE t.status = 'completed') AS completed,
    count(*) FILTER (WHERE t.status = 'failed') AS failed,
    sum(greatest(t.attempts_count - 1, 0))::bigint AS retries
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug
) AS t ON s.status IN ('started', 'failed')
WHERE s.run_id = %(run_id)s::uuid
ORDER BY definition.step_index
