-- A delay of the task's own replaces the step's, which fail_task has set.
SELECT
  f.status,
  CASE
    WHEN f.status = 'queued' AND b.delay IS NOT NULL
      THEN (SELECT count(*) FROM pgmq.set_vt(f.flow_slug, f.message_id, b.delay))
  END AS delayed
FROM (
  SELECT * FROM unnest(
    %(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[], %(error_messages)s::text[], %(delays)s::int[]
  ) WITH ORDINALITY AS b (run_id, step_slug, task_index, error_message, delay, position)
  ORDER BY b.position
) AS b
CROSS JOIN LATERAL pgflow.fail_task(b.run_id, b.step_slug, b.task_index, b.error_message) AS f
