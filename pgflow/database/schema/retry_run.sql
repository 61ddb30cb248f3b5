-- Ours: let a failed run go on: its failed steps, and of them and the others that had started all tasks that have not
-- completed, with attempts from zero and new messages, visible at once. What completed stays, and so does the history.
-- A condition that failed the run is looked at again. Of a run that goes on, the tasks that have stalled for good are queued
-- again. Returns 'retried', 'failed' (it was retried, and a condition failed it again), 'over' (it has completed), 'started'
-- (it goes on, and nothing has stalled) or 'unknown'.
CREATE FUNCTION pgflow.retry_run(run_id uuid, reason text DEFAULT NULL, requested_by text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  run_status text := pgflow._lock_run(retry_run.run_id);
  p_run_id CONSTANT uuid := retry_run.run_id;
  restarted_slugs text[];
  requeued int;
BEGIN
  IF run_status IS NULL OR run_status = 'completed' THEN
    RETURN CASE WHEN run_status IS NULL THEN 'unknown' ELSE 'over' END;
  END IF;

  IF run_status = 'failed' THEN
    UPDATE pgflow.runs AS r SET status = 'started', failed_at = NULL WHERE r.run_id = p_run_id;
    -- A step that failed before it started had no tasks.
    WITH restarted AS (
      UPDATE pgflow.step_states AS s
      SET
        status = CASE WHEN s.started_at IS NULL THEN 'created' ELSE 'started' END,
        failed_at = NULL,
        error_message = NULL,
        remaining_tasks = CASE
          WHEN s.started_at IS NOT NULL THEN (
            SELECT count(*)
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = p_run_id AND t.step_slug = s.step_slug AND t.status <> 'completed'
          )
        END
      WHERE s.run_id = p_run_id AND s.status = 'failed'
      RETURNING s.step_slug, s.status
    )
    SELECT array_agg(r.step_slug ORDER BY r.step_slug) FILTER (WHERE r.status = 'started') INTO restarted_slugs
    FROM restarted AS r;
    PERFORM pgflow._emit_run_events('started', ARRAY[p_run_id]);
    IF restarted_slugs IS NOT NULL THEN
      PERFORM pgflow._emit_step_events('started', array_fill(p_run_id, ARRAY[cardinality(restarted_slugs)]), restarted_slugs);
    END IF;
  END IF;

  requeued := pgflow._requeue_open_tasks(p_run_id, only_stalled => run_status = 'started');
  IF run_status = 'started' AND requeued = 0 THEN
    RETURN 'started';
  END IF;
  PERFORM pgflow._advance_runs(ARRAY[p_run_id]);

  INSERT INTO pgflow.run_interventions (run_id, action, requested_by, reason)
  VALUES (p_run_id, 'retried', coalesce(retry_run.requested_by, session_user), retry_run.reason);
  RETURN CASE
    WHEN (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = p_run_id) = 'failed' THEN 'failed'
    ELSE 'retried'
  END;
END
$$;
