-- Fail the tasks for which map_slugs names the map that their output cannot feed, and with them their steps and runs,
-- whatever attempts are left. The output is kept for whoever looks for the reason.
CREATE FUNCTION pgflow._fail_type_violations(
  run_ids uuid[], step_slugs text[], task_indexes int[], outputs jsonb[], map_slugs text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
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

  WITH violating AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'failed',
      failed_at = greatest(now(), t.queued_at, t.started_at),
      output = v.output,
      error_message = format('[TYPE_VIOLATION] Produced %s instead of array', coalesce(jsonb_typeof(v.output), 'null'))
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, map_slugs)
      AS v (run_id, step_slug, task_index, output, map_slug)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = v.run_id AND k.step_slug = v.step_slug AND k.task_index = v.task_index
      OFFSET 0
    ) AS k
    WHERE v.map_slug IS NOT NULL AND t.ctid = k.ctid
    RETURNING t.*
  )
  INSERT INTO pgflow.task_attempts (
    run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message
  )
  SELECT
    t.run_id, t.step_slug, t.task_index, t.attempts_count, 'failed', t.last_worker_id, t.started_at, t.failed_at,
    t.error_message
  FROM violating AS t;
END
$$;
