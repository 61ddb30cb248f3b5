-- Archive the messages of all tasks of runs that have not ended: nobody shall start them any more.
CREATE FUNCTION pgflow._archive_open_messages(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  PERFORM
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = ANY(run_ids) AND t.status IN ('queued', 'started')
  ORDER BY t.run_id, t.step_slug, t.task_index
  FOR UPDATE;

  PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = ANY(run_ids) AND t.status IN ('queued', 'started');
END
$$;
