-- The steps of a run in the order of their definition, with the counts of all their tasks.
SELECT
  s.step_slug,
  definition.step_type AS kind,
  ARRAY(
    SELECT d.dep_slug
    FROM pgflow.deps AS d
    JOIN pgflow.steps AS p ON p.flow_slug = d.flow_slug AND p.step_slug = d.dep_slug
    WHERE d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
    ORDER BY p.step_index
  ) AS depends_on,
  s.status,
  s.initial_tasks AS tasks,
  t.queued,
  t.started,
  t.completed,
  t.failed,
  t.retries,
  s.created_at,
  s.started_at,
  coalesce(s.completed_at, s.failed_at, s.skipped_at) AS ended_at,
  extract(
    epoch FROM coalesce(s.completed_at, s.failed_at, s.skipped_at, greatest(now(), s.started_at)) - s.started_at
  )::float AS seconds,
  s.skip_reason,
  s.error_message
FROM pgflow.step_states AS s
JOIN pgflow.steps AS definition
  ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
CROSS JOIN LATERAL (
  SELECT
    count(*) FILTER (WHERE t.status = 'queued') AS queued,
    count(*) FILTER (WHERE t.status = 'started') AS started,
    count(*) FILTER (WHERE t.status = 'completed') AS completed,
    count(*) FILTER (WHERE t.status = 'failed') AS failed,
    coalesce(sum(greatest(t.attempts_count - 1, 0)), 0)::bigint AS retries
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug
) AS t
WHERE s.run_id = %(run_id)s::uuid
ORDER BY definition.step_index
