-- Archive the messages of all tasks of runs that have not ended: nobody shall start them any more, and what those that run
-- come to does not count.
CREATE FUNCTION pgflow._archive_open_messages(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  open record;
BEGIN
  SELECT
    array_agg(t.run_id) FILTER (WHERE t.status = 'started') AS run_ids,
    array_agg(t.step_slug) FILTER (WHERE t.status = 'started') AS step_slugs,
    array_agg(t.task_index) FILTER (WHERE t.status = 'started') AS task_indexes,
    array_agg(t.flow_slug) AS flow_slugs,
    array_agg(t.message_id) AS message_ids
  INTO open
  FROM (
    SELECT t.run_id, t.step_slug, t.task_index, t.status, t.flow_slug, t.message_id
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = ANY(_archive_open_messages.run_ids) AND t.status IN ('queued', 'started')
    ORDER BY t.run_id, t.step_slug, t.task_index
    FOR UPDATE
  ) AS t;

  PERFORM pgflow._record_cancelled_attempts(open.run_ids, open.step_slugs, open.task_indexes);
  PERFORM pgflow._archive_messages(open.flow_slugs, open.message_ids);
END
$$;
