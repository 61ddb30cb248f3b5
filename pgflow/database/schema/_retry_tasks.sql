-- Send started tasks back to their queues for another attempt, visible after their step's delay.
CREATE FUNCTION pgflow._retry_tasks(run_ids uuid[], step_slugs text[], task_indexes int[], error_messages text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  queued record;
BEGIN
  WITH retried AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'queued', started_at = NULL, failed_at = NULL, error_message = b.error_message
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages)
      AS b (run_id, step_slug, task_index, error_message)
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    RETURNING t.flow_slug, t.step_slug, t.message_id, t.attempts_count
  )
  SELECT
    array_agg(t.flow_slug) AS flow_slugs,
    array_agg(t.message_id) AS message_ids,
    array_agg(pgflow.calculate_retry_delay(coalesce(s.opt_base_delay, f.opt_base_delay), t.attempts_count)) AS delays
  INTO queued
  FROM retried AS t
  JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
  JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug;

  UPDATE pgflow.step_states AS s
  SET error_message = NULL
  FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
  WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug AND s.error_message IS NOT NULL;

  PERFORM pgflow._delay_messages(queued.flow_slugs, queued.message_ids, queued.delays);
END
$$;
