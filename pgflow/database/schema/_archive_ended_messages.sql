-- Archive the messages of those tasks of a batch that need none any more: ended ones, and those whose step has ended.
CREATE FUNCTION pgflow._archive_ended_messages(run_ids uuid[], step_slugs text[], task_indexes int[])
RETURNS void
LANGUAGE sql
SET search_path TO ''
AS $$
  SELECT pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM unnest(run_ids, step_slugs, task_indexes) AS b (run_id, step_slug, task_index)
  JOIN pgflow.step_tasks AS t
    ON t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
  JOIN pgflow.step_states AS s ON s.run_id = b.run_id AND s.step_slug = b.step_slug
  WHERE t.status IN ('completed', 'failed') OR s.status <> 'started'
$$;
