-- Ours: end a run that goes on. It fails, and its started steps with it; nobody starts its tasks any more, and what a worker
-- still reports of them comes too late. Returns 'cancelled', 'over' (it had ended) or 'unknown'.
CREATE FUNCTION pgflow.cancel_run(run_id uuid, reason text DEFAULT NULL, requested_by text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  status text := pgflow._lock_run(cancel_run.run_id);
  error CONSTANT text := 'Cancelled: ' || coalesce(reason, 'no reason was given');
  failed_slugs text[];
BEGIN
  IF status IS DISTINCT FROM 'started' THEN
    RETURN CASE WHEN status IS NULL THEN 'unknown' ELSE 'over' END;
  END IF;

  WITH failed AS (
    UPDATE pgflow.step_states AS s
    SET status = 'failed', failed_at = greatest(now(), s.started_at), error_message = error
    WHERE s.run_id = cancel_run.run_id AND s.status = 'started'
    RETURNING s.step_slug
  )
  SELECT array_agg(failed.step_slug ORDER BY failed.step_slug) INTO failed_slugs
  FROM failed;

  UPDATE pgflow.runs AS r
  SET status = 'failed', failed_at = greatest(now(), r.started_at)
  WHERE r.run_id = cancel_run.run_id;

  IF failed_slugs IS NOT NULL THEN
    PERFORM pgflow._emit_step_events('failed', array_fill(cancel_run.run_id, ARRAY[cardinality(failed_slugs)]), failed_slugs);
  END IF;
  PERFORM pgflow._emit_run_events('failed', ARRAY[cancel_run.run_id], ARRAY[error]);
  PERFORM pgflow._archive_open_messages(ARRAY[cancel_run.run_id]);

  INSERT INTO pgflow.run_interventions (run_id, action, requested_by, reason)
  VALUES (cancel_run.run_id, 'cancelled', coalesce(cancel_run.requested_by, session_user), cancel_run.reason);
  RETURN 'cancelled';
END
$$;
