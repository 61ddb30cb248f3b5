-- A task's output cannot feed the map that waits for it: task, step and run fail, whatever attempts are left. The
-- output is kept, for whoever looks for the reason.
CREATE FUNCTION pgflow._fail_on_type_violation(
  run_id uuid, step_slug text, task_index int, output jsonb, type text, map_slug text
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  UPDATE pgflow.step_tasks AS t
  SET
    status = 'failed',
    failed_at = now(),
    output = _fail_on_type_violation.output,
    error_message = format('[TYPE_VIOLATION] Produced %s instead of array', type)
  WHERE t.run_id = _fail_on_type_violation.run_id
    AND t.step_slug = _fail_on_type_violation.step_slug
    AND t.task_index = _fail_on_type_violation.task_index;

  PERFORM pgflow._archive_task_message(run_id, step_slug, task_index);
  PERFORM pgflow._fail_steps(
    ARRAY[run_id],
    ARRAY[step_slug],
    ARRAY[
      format(
        '[TYPE_VIOLATION] Map step %s expects array input but dependency %s produced %s', map_slug, step_slug, type
      )
    ]
  );
END
$$;
