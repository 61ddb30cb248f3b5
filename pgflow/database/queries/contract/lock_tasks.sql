-- After the runs, in the order of keys: a requeue or a claim does not lock the run.
SELECT
FROM pgflow.step_tasks AS t
JOIN unnest(%(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[]) AS b (run_id, step_slug, task_index)
  ON t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
ORDER BY t.run_id, t.step_slug, t.task_index
FOR UPDATE OF t
