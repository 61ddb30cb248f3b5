SELECT verdict
FROM pgflow.release_tasks(
  %(run_ids)s::uuid[],
  %(step_slugs)s::text[],
  %(task_indexes)s::int[],
  %(attempts)s::int[],
  %(worker_ids)s::uuid[],
  %(message_ids)s::bigint[]
)
ORDER BY ordinal
