-- Tasks that run, the newest first. Those that have stalled for good do not, nor those of runs that have ended, which keep
-- their status.
SELECT
  t.flow_slug,
  t.run_id::text AS run_id,
  t.step_slug,
  t.task_index,
  t.attempts_count AS attempt,
  t.last_worker_id::text AS worker_id,
  t.started_at
FROM (
  SELECT t.flow_slug, t.run_id, t.step_slug, t.task_index, t.attempts_count, t.last_worker_id, t.started_at
  FROM pgflow.step_tasks AS t
  WHERE t.status = 'started' AND t.permanently_stalled_at IS NULL
  ORDER BY t.started_at DESC
  LIMIT %(limit)s
) AS t
WHERE (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = t.run_id) = 'started'
ORDER BY t.started_at DESC
