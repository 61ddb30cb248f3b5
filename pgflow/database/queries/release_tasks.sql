SELECT verdict
FROM pgflow.release_tasks(
  %(run_ids)s::uuid[],
  %(step_slugs)s::text[],
  %(task_indexes)s::int[],
  %(attempts)s::int[]
)
ORDER BY ordinal
