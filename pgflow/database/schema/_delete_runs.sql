-- Delete runs that have ended and are locked, with their steps, tasks, attempts and messages.
CREATE FUNCTION pgflow._delete_runs(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgmq.delete(m.flow_slug, m.message_ids)
  FROM (
    SELECT t.flow_slug, array_agg(t.message_id ORDER BY t.message_id) AS message_ids
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = ANY(run_ids) AND t.message_id IS NOT NULL
    GROUP BY t.flow_slug
    ORDER BY t.flow_slug
    OFFSET 0
  ) AS m
  WHERE to_regclass(format('pgmq.%I', pgmq.format_table_name(m.flow_slug, 'q'))) IS NOT NULL;
  DELETE FROM pgflow.batch_runs AS b WHERE b.run_id = ANY(run_ids);
  DELETE FROM pgflow.task_attempts AS a WHERE a.run_id = ANY(run_ids);
  DELETE FROM pgflow.step_tasks AS t WHERE t.run_id = ANY(run_ids);
  DELETE FROM pgflow.step_states AS s WHERE s.run_id = ANY(run_ids);
  DELETE FROM pgflow.runs AS r WHERE r.run_id = ANY(run_ids);
END
$$;
