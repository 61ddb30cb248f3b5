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
  -- Locked in the order of all others; a run that somebody works on at this moment is left for the next time.
  SELECT array_agg(r.run_id) INTO old_runs
  FROM (
    SELECT r.run_id
    FROM pgflow.runs AS r
    WHERE (r.completed_at < cutoff OR r.failed_at < cutoff)
      AND NOT EXISTS (SELECT FROM pgflow.batch_runs AS b WHERE b.run_id = r.run_id AND b.unwritten + b.failures > 0)
    ORDER BY r.run_id
    FOR UPDATE SKIP LOCKED
  ) AS r;

  PERFORM pgflow._delete_runs(old_runs);
  PERFORM pgflow.prune_batches(retention_interval, 2147483647);

  FOR queue IN
    SELECT pgmq.format_table_name(f.flow_slug, 'a') AS archive
    FROM pgflow.flows AS f
    ORDER BY f.flow_slug
  LOOP
    IF to_regclass(format('pgmq.%I', queue.archive)) IS NOT NULL THEN
      EXECUTE format('DELETE FROM pgmq.%I WHERE archived_at < $1', queue.archive) USING cutoff;
    END IF;
  END LOOP;

  -- Without its row nobody finds a worker with what it holds: first that is handed back.
  DELETE FROM pgflow.workers AS w
  WHERE w.last_heartbeat_at < cutoff
    AND NOT EXISTS (
      SELECT
      FROM pgflow.step_tasks AS t
      WHERE t.last_worker_id = w.worker_id AND t.status = 'started' AND t.permanently_stalled_at IS NULL
    );
END
$$;
