SELECT verdict
FROM pgflow.complete_tasks(
  %(run_ids)s::uuid[],
  %(step_slugs)s::text[],
  %(task_indexes)s::int[],
  %(outputs)s::jsonb[],
  %(attempts)s::int[],
  %(worker_ids)s::uuid[],
  %(message_ids)s::bigint[],
  %(evidence)s::jsonb[]
)
ORDER BY ordinal
