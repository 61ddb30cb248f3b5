-- Fail a task's attempt, whichever it is; returns its row as it is afterwards.
CREATE FUNCTION pgflow.fail_task(run_id uuid, step_slug text, task_index int, error_message text)
RETURNS SETOF pgflow.step_tasks
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._fail_tasks(
    ARRAY[fail_task.run_id],
    ARRAY[fail_task.step_slug],
    ARRAY[fail_task.task_index],
    ARRAY[fail_task.error_message],
    NULL, NULL, NULL, NULL, NULL, NULL
  );
  RETURN QUERY
  SELECT *
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = fail_task.run_id
    AND t.step_slug = fail_task.step_slug
    AND t.task_index = fail_task.task_index;
END
$$;
