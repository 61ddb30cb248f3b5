SELECT verdict
FROM pgflow.fail_tasks(
  %(run_ids)s::uuid[],
  %(step_slugs)s::text[],
  %(task_indexes)s::int[],
  %(error_messages)s::text[],
  %(attempts)s::int[],
  %(retry_delays)s::int[],
  %(outcomes)s::text[],
  %(worker_ids)s::uuid[],
  %(message_ids)s::bigint[],
  %(evidence)s::jsonb[]
)
ORDER BY ordinal
