-- As release_tasks, and counted.
WITH requeued AS (
  UPDATE pgflow.step_tasks AS t
  SET
    status = 'queued',
    started_at = NULL,
    attempts_count = greatest(t.attempts_count - 1, 0),
    last_worker_id = NULL,
    requeued_count = t.requeued_count + 1,
    last_requeued_at = now()
  FROM unnest(
    %(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[]
  ) AS b (run_id, step_slug, task_index)
  WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
  RETURNING t.flow_slug, t.message_id
)
SELECT count(*)
FROM requeued
CROSS JOIN LATERAL pgmq.set_vt(requeued.flow_slug, requeued.message_id, 0)
