SELECT verdict
FROM pgflow.requeue_tasks(
  %(run_ids)s::uuid[],
  %(step_slugs)s::text[],
  %(task_indexes)s::int[],
  %(reasons)s::text[],
  %(attempts)s::int[],
  %(worker_ids)s::uuid[],
  %(message_ids)s::bigint[]
)
ORDER BY ordinal
