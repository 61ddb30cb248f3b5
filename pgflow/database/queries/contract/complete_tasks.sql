SELECT c.status
FROM (
  SELECT * FROM unnest(
    %(run_ids)s::uuid[], %(step_slugs)s::text[], %(task_indexes)s::int[], %(outputs)s::jsonb[]
  ) WITH ORDINALITY AS b (run_id, step_slug, task_index, output, position)
  ORDER BY b.position
) AS b
CROSS JOIN LATERAL pgflow.complete_task(b.run_id, b.step_slug, b.task_index, b.output) AS c
