-- Fail the tasks for which map_slugs names the map that their output cannot feed, and with them their steps and runs,
-- whatever attempts are left. The output is kept for whoever looks for the reason. The history says what the attempt came
-- to, if that is given.
CREATE FUNCTION pgflow._fail_type_violations(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  map_slugs text[],
  outcomes text[],
  error_messages text[],
  evidence jsonb[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  ended record;
BEGIN
  WITH violating AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'failed',
      failed_at = greatest(now(), t.queued_at, t.started_at),
      output = v.output,
      error_message = format('[TYPE_VIOLATION] Produced %s instead of array', coalesce(jsonb_typeof(v.output), 'null'))
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, map_slugs, outcomes, error_messages, evidence)
      AS v (run_id, step_slug, task_index, output, map_slug, outcome, error_message, evidence)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.status
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = v.run_id AND k.step_slug = v.step_slug AND k.task_index = v.task_index
      OFFSET 0
    ) AS k
    WHERE v.map_slug IS NOT NULL AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id, t.started_at,
      t.failed_at, coalesce(v.outcome, 'failed') AS outcome, coalesce(v.error_message, t.error_message) AS error_message,
      v.evidence, k.status AS former_status
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      v.run_id, v.step_slug, v.task_index, v.attempts_count, v.outcome, v.last_worker_id, v.started_at, v.failed_at,
      v.error_message, v.evidence
    FROM violating AS v
    WHERE v.former_status = 'started'
  )
  SELECT array_agg(v.flow_slug) AS flow_slugs, array_agg(v.message_id) AS message_ids INTO ended
  FROM violating AS v;

  PERFORM pgflow._fail_steps(
    array_agg(v.run_id),
    array_agg(v.step_slug),
    array_agg(
      format(
        '[TYPE_VIOLATION] Map step %s expects array input but dependency %s produced %s',
        v.map_slug, v.step_slug, coalesce(jsonb_typeof(v.output), 'null')
      )
    ),
    is_type_violation => true
  )
  FROM unnest(run_ids, step_slugs, outputs, map_slugs) AS v (run_id, step_slug, output, map_slug)
  WHERE v.map_slug IS NOT NULL;
  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);
END
$$;
