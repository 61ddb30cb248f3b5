-- Attempts that go on although their task's run or step has ended are over: nothing that comes of them counts.
CREATE FUNCTION pgflow._record_cancelled_attempts(run_ids uuid[], step_slugs text[], task_indexes int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO pgflow.task_attempts (
    run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at
  )
  SELECT
    t.run_id, t.step_slug, t.task_index, t.attempts_count, 'cancelled', t.last_worker_id, t.started_at,
    greatest(now(), t.started_at)
  FROM unnest(run_ids, step_slugs, task_indexes) AS b (run_id, step_slug, task_index)
  CROSS JOIN LATERAL (
    SELECT t.*
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t
  WHERE t.status = 'started' AND t.permanently_stalled_at IS NULL;
END
$$;
