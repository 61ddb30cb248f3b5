-- Ours: delete at most p_limit workers without a sign of life since so long; how many there were. Few at a time: for each
-- of them PostgreSQL looks through all tasks, which have no index by their last worker.
--
-- Not those that hold tasks: without the row nobody finds them with what they hold, so first it is rescued. Nor those that
-- may be alive, whatever is asked for: they could claim nothing any more.
CREATE FUNCTION pgflow.prune_workers(p_older_than interval, p_limit int)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  pruned int;
BEGIN
  DELETE FROM pgflow.workers AS w
  WHERE w.worker_id = ANY(
    ARRAY(
      SELECT k.worker_id
      FROM pgflow.workers AS k
      WHERE k.last_heartbeat_at < now()
          - CASE WHEN k.stopped_at IS NULL THEN greatest(p_older_than, interval '1 minute') ELSE p_older_than END
        AND NOT EXISTS (
          SELECT
          FROM pgflow.step_tasks AS t
          WHERE t.last_worker_id = k.worker_id AND t.status = 'started' AND t.permanently_stalled_at IS NULL
        )
      ORDER BY k.last_heartbeat_at
      LIMIT p_limit
      FOR UPDATE SKIP LOCKED
    )
  );
  GET DIAGNOSTICS pruned = ROW_COUNT;
  RETURN pruned;
END
$$;
