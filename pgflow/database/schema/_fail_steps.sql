-- Fail steps, at most one of each run, and with them their runs. Nobody shall start the runs' other tasks any more, so
-- their messages are archived; their rows stay as they are. Of a type violation the run's event tells first, and without
-- the error.
CREATE FUNCTION pgflow._fail_steps(
  run_ids uuid[], step_slugs text[], error_messages text[], is_type_violation boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._lock_steps(run_ids, step_slugs);
  UPDATE pgflow.step_states AS s
  SET status = 'failed', failed_at = greatest(now(), s.created_at, s.started_at), error_message = f.error_message
  FROM unnest(run_ids, step_slugs, error_messages) AS f (run_id, step_slug, error_message)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = f.run_id AND k.step_slug = f.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid;

  UPDATE pgflow.runs AS r
  SET status = 'failed', failed_at = greatest(now(), r.started_at)
  WHERE r.run_id = ANY(run_ids);

  IF is_type_violation THEN
    PERFORM pgflow._emit_run_events('failed', run_ids);
    PERFORM pgflow._emit_step_events('failed', run_ids, step_slugs);
  ELSE
    PERFORM pgflow._emit_step_events('failed', run_ids, step_slugs);
    PERFORM pgflow._emit_run_events('failed', run_ids, error_messages);
  END IF;

  PERFORM pgflow._archive_open_messages(run_ids);
END
$$;
