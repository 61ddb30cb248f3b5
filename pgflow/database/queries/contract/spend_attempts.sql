-- The contract knows no failure that is final at once: one without attempts left is.
UPDATE pgflow.step_tasks AS t
SET attempts_count = greatest(t.attempts_count, b.max_attempts)
FROM unnest(
  %(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[], %(max_attempts)s::int[]
) AS b (run_id, step_slug, task_index, max_attempts)
WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
