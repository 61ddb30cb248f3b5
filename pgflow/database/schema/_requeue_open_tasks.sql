-- Queue the tasks of a run's started steps that have not completed as if they were new: a new message each, because the
-- old ones are archived and an old result shall not be taken for a new one; or only those that have stalled for good.
-- Returns how many.
CREATE FUNCTION pgflow._requeue_open_tasks(p_run_id uuid, only_stalled boolean)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  p_flow_slug text;
  open record;
BEGIN
  SELECT r.flow_slug INTO p_flow_slug FROM pgflow.runs AS r WHERE r.run_id = p_run_id;

  SELECT
    array_agg(t.step_slug) AS step_slugs,
    array_agg(t.task_index) AS task_indexes,
    array_agg(t.message_id) AS message_ids
  INTO open
  FROM (
    SELECT t.step_slug, t.task_index, t.message_id
    FROM pgflow.step_tasks AS t
    JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = t.step_slug AND s.status = 'started'
    WHERE t.run_id = p_run_id
      AND t.status IN ('queued', 'started', 'failed')
      AND (t.permanently_stalled_at IS NOT NULL OR NOT only_stalled)
    ORDER BY t.step_slug, t.task_index
    FOR UPDATE OF t
  ) AS t;
  IF open.step_slugs IS NULL THEN
    RETURN 0;
  END IF;

  PERFORM pgflow._archive_messages(array_fill(p_flow_slug, ARRAY[cardinality(open.message_ids)]), open.message_ids);

  UPDATE pgflow.step_tasks AS t
  SET
    status = 'queued',
    message_id = b.message_id,
    attempts_count = 0,
    queued_at = now(),
    started_at = NULL,
    failed_at = NULL,
    error_message = NULL,
    output = NULL,
    last_worker_id = NULL,
    requeued_count = 0,
    last_requeued_at = NULL,
    permanently_stalled_at = NULL
  FROM (
    SELECT b.step_slug, b.task_index, m.message_id
    FROM unnest(open.step_slugs, open.task_indexes) WITH ORDINALITY AS b (step_slug, task_index, position)
    JOIN pgmq.send_batch(
      p_flow_slug,
      ARRAY(
        SELECT jsonb_build_object(
          'flow_slug', p_flow_slug, 'run_id', p_run_id, 'step_slug', b.step_slug, 'task_index', b.task_index
        )
        FROM unnest(open.step_slugs, open.task_indexes) WITH ORDINALITY AS b (step_slug, task_index, position)
        ORDER BY b.position
      ),
      0
    ) WITH ORDINALITY AS m (message_id, position) ON m.position = b.position
  ) AS b
  WHERE t.run_id = p_run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index;

  PERFORM pgflow._wake_workers(ARRAY[p_flow_slug]);
  RETURN cardinality(open.step_slugs);
END
$$;
