SELECT
  flow_slug,
  run_id::text AS run_id,
  step_slug,
  task_index,
  attempt,
  msg_id,
  kind,
  input,
  timeout,
  max_attempts,
  retry_delay
FROM pgflow.claim_tasks(%(flow_slugs)s::text[], %(worker_ids)s::uuid[], %(quantity)s::int)
