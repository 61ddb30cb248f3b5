-- Delete what is older than the interval: runs that have ended, with their steps, tasks and messages; archived messages;
-- workers without a sign of life. A run that goes on is kept, whatever its age.
CREATE FUNCTION pgflow.prune_data_older_than(retention_interval interval)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  cutoff timestamptz := now() - retention_interval;
  old_runs uuid[];
  queue record;
BEGIN
  DELETE FROM pgflow.workers AS w WHERE w.last_heartbeat_at < cutoff;

  -- Locked in the order of all others; a run that somebody works on at this moment is left for the next time.
  SELECT array_agg(r.run_id) INTO old_runs
  FROM (
    SELECT r.run_id
    FROM pgflow.runs AS r
    WHERE r.completed_at < cutoff OR r.failed_at < cutoff
    ORDER BY r.run_id
    FOR UPDATE SKIP LOCKED
  ) AS r;

  PERFORM pgmq.delete(m.flow_slug, m.message_ids)
  FROM (
    SELECT t.flow_slug, array_agg(t.message_id ORDER BY t.message_id) AS message_ids
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = ANY(old_runs) AND t.message_id IS NOT NULL
    GROUP BY t.flow_slug
    ORDER BY t.flow_slug
    OFFSET 0
  ) AS m
  WHERE to_regclass(format('pgmq.%I', pgmq.format_table_name(m.flow_slug, 'q'))) IS NOT NULL;
  DELETE FROM pgflow.task_attempts AS a WHERE a.run_id = ANY(old_runs);
  DELETE FROM pgflow.step_tasks AS t WHERE t.run_id = ANY(old_runs);
  DELETE FROM pgflow.step_states AS s WHERE s.run_id = ANY(old_runs);
  DELETE FROM pgflow.runs AS r WHERE r.run_id = ANY(old_runs);

  FOR queue IN
    SELECT pgmq.format_table_name(f.flow_slug, 'a') AS archive
    FROM pgflow.flows AS f
    ORDER BY f.flow_slug
  LOOP
    IF to_regclass(format('pgmq.%I', queue.archive)) IS NOT NULL THEN
      EXECUTE format('DELETE FROM pgmq.%I WHERE archived_at < $1', queue.archive) USING cutoff;
    END IF;
  END LOOP;
END
$$;
