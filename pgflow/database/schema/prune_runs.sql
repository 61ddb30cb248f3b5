-- Ours: of what prune_data_older_than deletes, at most p_limit runs, so that a table of millions can be pruned in short
-- transactions while workers run. It goes through the table once: from p_after, at first '(0,0)', to `last_row`, which is
-- NULL at the table's end. A run that somebody works on at this moment is left for the next time, and one of a batch until its
-- outputs are in the batch's file and none of its items may be wanted again because it failed, or the batch is pruned.
CREATE FUNCTION pgflow.prune_runs(p_older_than interval, p_limit int, p_after tid)
RETURNS TABLE (pruned int, last_row tid)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET enable_seqscan TO off
AS $$
DECLARE
  old_runs record;
BEGIN
  -- Runs have no index by their end, which every run would pay for; a range of rows needs none.
  SELECT array_agg(r.run_id) AS ids, max(r.ctid) AS last_row, count(*)::int AS count INTO old_runs
  FROM (
    SELECT r.run_id, r.ctid
    FROM pgflow.runs AS r
    WHERE r.ctid > p_after
      AND coalesce(r.completed_at, r.failed_at) < now() - p_older_than
      -- Not as NOT EXISTS, which may become a join that does not go through the table in its order.
      AND coalesce((SELECT b.unwritten + b.failures FROM pgflow.batch_runs AS b WHERE b.run_id = r.run_id), 0) = 0
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  ) AS r;
  PERFORM pgflow._delete_runs(old_runs.ids);
  RETURN QUERY SELECT old_runs.count, CASE WHEN old_runs.count >= p_limit THEN old_runs.last_row END;
END
$$;
