-- Fail steps and with them their runs; the messages of the runs' other tasks are archived.
CREATE FUNCTION pgflow._fail_steps(run_ids uuid[], step_slugs text[], error_messages text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  UPDATE pgflow.step_states AS s
  SET status = 'failed', failed_at = now(), error_message = f.error_message
  FROM unnest(run_ids, step_slugs, error_messages) AS f (run_id, step_slug, error_message)
  WHERE s.run_id = f.run_id AND s.step_slug = f.step_slug;

  UPDATE pgflow.runs AS r
  SET status = 'failed', failed_at = now()
  WHERE r.run_id = ANY(run_ids);

  PERFORM pgflow._archive_runs_messages(run_ids);
END
$$;
