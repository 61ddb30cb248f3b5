-- Archive every message of runs that have failed: nobody shall start their queued and started tasks any more.
CREATE FUNCTION pgflow._archive_runs_messages(run_ids uuid[])
RETURNS void
LANGUAGE sql
SET search_path TO ''
AS $$
  SELECT pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = ANY(run_ids) AND t.status IN ('queued', 'started')
$$;
