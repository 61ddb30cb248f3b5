SELECT
  s.step_slug,
  definition.step_type AS kind,
  t.task_index,
  coalesce(t.attempts_count, 0) AS attempts,
  coalesce(t.error_message, s.error_message, '') AS error_message
FROM pgflow.runs AS r
JOIN pgflow.step_states AS s ON s.run_id = r.run_id
JOIN pgflow.steps AS definition
  ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
LEFT JOIN pgflow.step_tasks AS t
  ON t.run_id = s.run_id AND t.step_slug = s.step_slug AND t.status = 'failed'
WHERE r.run_id = %(run_id)s::uuid AND r.status = 'failed' AND (s.status = 'failed' OR t.status = 'failed')
-- Tasks that were still running when the run failed are marked failed after it.
ORDER BY (s.status = 'failed') DESC, s.failed_at, t.failed_at, t.task_index
LIMIT 1
