SELECT
  run_id::text AS run_id,
  flow_slug,
  status,
  input::text AS input,
  output::text AS output,
  remaining_steps,
  started_at,
  completed_at,
  failed_at
FROM pgflow.runs
WHERE run_id = %(run_id)s::uuid
