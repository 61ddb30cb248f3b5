-- Skip those of the steps that have not ended, and with them their tasks; their messages are archived. Dependents are
-- the caller's business. Returns how many steps were skipped.
CREATE FUNCTION pgflow._skip_steps(
  run_ids uuid[], step_slugs text[], skip_reasons text[], error_messages text[] DEFAULT NULL
)
RETURNS int
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  skipped record;
  ended record;
BEGIN
  WITH skipped_step AS (
    UPDATE pgflow.step_states AS s
    SET
      status = 'skipped',
      skip_reason = b.skip_reason,
      skipped_at = now(),
      error_message = b.error_message,
      remaining_tasks = NULL
    FROM unnest(run_ids, step_slugs, skip_reasons, error_messages)
      AS b (run_id, step_slug, skip_reason, error_message)
    WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug AND s.status IN ('created', 'started')
    RETURNING s.run_id, s.step_slug
  )
  SELECT array_agg(s.run_id) AS run_ids, array_agg(s.step_slug) AS step_slugs INTO skipped
  FROM skipped_step AS s;
  IF skipped.run_ids IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM pgflow._count_ended_steps(skipped.run_ids);

  PERFORM
  FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
  JOIN pgflow.step_tasks AS t ON t.run_id = b.run_id AND t.step_slug = b.step_slug
  WHERE t.status IN ('queued', 'started')
  ORDER BY t.run_id, t.step_slug, t.task_index
  FOR UPDATE OF t;

  WITH skipped_task AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'skipped'
    FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.status IN ('queued', 'started')
    RETURNING t.flow_slug, t.message_id
  )
  SELECT array_agg(t.flow_slug) AS flow_slugs, array_agg(t.message_id) AS message_ids INTO ended
  FROM skipped_task AS t;
  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);

  RETURN cardinality(skipped.run_ids);
END
$$;
