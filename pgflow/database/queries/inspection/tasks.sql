-- Tasks of a run, in the order of their steps and elements.
SELECT
  t.step_slug,
  definition.step_type AS kind,
  t.task_index,
  t.status,
  t.attempts_count AS attempts,
  coalesce(definition.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
  t.requeued_count AS requeued,
  t.queued_at,
  t.started_at,
  coalesce(t.completed_at, t.failed_at) AS ended_at,
  t.permanently_stalled_at AS stalled_at,
  extract(
    epoch FROM coalesce(t.completed_at, t.failed_at, greatest(now(), t.started_at)) - t.started_at
  )::float AS seconds,
  t.message_id,
  t.last_worker_id::text AS worker_id,
  length(t.error_message) AS error_characters,
  left(t.error_message, %(characters)s) AS error_message
FROM pgflow.step_tasks AS t
JOIN pgflow.steps AS definition
  ON definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
WHERE t.run_id = %(run_id)s::uuid
  AND (%(step_slug)s::text IS NULL OR t.step_slug = %(step_slug)s)
  AND (%(task_index)s::int IS NULL OR t.task_index = %(task_index)s)
  AND (%(status)s::text IS NULL OR t.status = %(status)s)
ORDER BY definition.step_index, t.task_index
LIMIT %(limit)s
