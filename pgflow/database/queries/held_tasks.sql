SELECT
  t.flow_slug,
  t.run_id::text AS run_id,
  t.step_slug,
  t.task_index,
  t.attempts_count AS attempt,
  t.message_id AS msg_id,
  t.last_worker_id::text AS worker_id
FROM pgflow.step_tasks AS t
WHERE t.status = 'started'
  AND t.permanently_stalled_at IS NULL
  AND t.last_worker_id = ANY(%(worker_ids)s::uuid[])
ORDER BY t.run_id, t.step_slug, t.task_index
