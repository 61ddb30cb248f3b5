SELECT state
FROM pgflow.renew_tasks(
  %(run_ids)s::uuid[],
  %(step_slugs)s::text[],
  %(task_indexes)s::int[],
  %(attempts)s::int[],
  %(worker_ids)s::uuid[],
  %(message_ids)s::bigint[],
  %(visible_seconds)s::int[]
)
ORDER BY ordinal
