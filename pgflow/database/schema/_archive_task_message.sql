-- Archive the message of one task, if it has one.
CREATE FUNCTION pgflow._archive_task_message(p_run_id uuid, p_step_slug text, p_task_index int)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = p_run_id AND t.step_slug = p_step_slug AND t.task_index = p_task_index
$$;
