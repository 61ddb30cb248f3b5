-- The last attempts of a task, in their order.
SELECT
  a.attempt,
  a.outcome,
  a.worker_id,
  a.started_at,
  a.ended_at,
  extract(epoch FROM a.ended_at - a.started_at)::float AS seconds,
  a.error_characters,
  a.error_message,
  a.evidence,
  a.attempts_in_all
FROM (
  SELECT
    a.attempt_id,
    a.attempt,
    a.outcome,
    a.worker_id::text AS worker_id,
    a.started_at,
    a.ended_at,
    length(a.error_message) AS error_characters,
    left(a.error_message, %(characters)s) AS error_message,
    a.evidence::text AS evidence,
    count(*) OVER () AS attempts_in_all
  FROM pgflow.task_attempts AS a
  WHERE a.run_id = %(run_id)s::uuid AND a.step_slug = %(step_slug)s AND a.task_index = %(task_index)s
  ORDER BY a.attempt_id DESC
  LIMIT %(limit)s
) AS a
ORDER BY a.attempt_id
