-- Complete a task in whichever attempt it is; returns its row as it is afterwards.
CREATE FUNCTION pgflow.complete_task(run_id uuid, step_slug text, task_index int, output jsonb)
RETURNS SETOF pgflow.step_tasks
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._complete_tasks(
    ARRAY[complete_task.run_id],
    ARRAY[complete_task.step_slug],
    ARRAY[complete_task.task_index],
    ARRAY[complete_task.output],
    NULL, NULL, NULL, NULL
  );
  RETURN QUERY
  SELECT *
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = complete_task.run_id
    AND t.step_slug = complete_task.step_slug
    AND t.task_index = complete_task.task_index;
END
$$;
