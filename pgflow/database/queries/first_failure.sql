SELECT
  t.step_slug,
  t.task_index,
  t.attempts_count AS attempts,
  coalesce(t.error_message, s.error_message) AS error_message
FROM pgflow.step_tasks AS t
JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = t.step_slug
WHERE t.run_id = %(run_id)s::uuid AND t.status = 'failed'
-- Tasks that were still running when the run failed are marked failed after it.
ORDER BY (s.status = 'failed') DESC, t.failed_at, t.task_index
LIMIT 1
