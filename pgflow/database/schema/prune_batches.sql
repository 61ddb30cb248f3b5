-- Ours: delete batches for which nobody has worked since so long, with all their runs and their flows; first what is known of
-- their items, at most p_limit of them at a time, and when nothing is left of that, the rest. Not those with a run that goes on,
-- nor, whatever is asked for, those for which somebody may be at work. Returns how many items and batches there were.
CREATE FUNCTION pgflow.prune_batches(p_older_than interval, p_limit int)
RETURNS TABLE (items int, batches int)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  old record;
BEGIN
  SELECT array_agg(b.batch_id) AS ids, array_agg(b.flow_slug ORDER BY b.flow_slug) AS flow_slugs, count(*)::int AS count
  INTO old
  FROM (
    SELECT b.batch_id, b.flow_slug
    FROM pgflow.batches AS b
    WHERE b.touched_at < now() - greatest(p_older_than, interval '10 minutes')
      AND NOT EXISTS (
        SELECT
        FROM pgflow.batch_runs AS r
        JOIN pgflow.runs AS run ON run.run_id = r.run_id
        WHERE r.batch_id = b.batch_id AND r.unwritten > 0 AND run.status = 'started'
      )
    FOR UPDATE SKIP LOCKED
  ) AS b;

  DELETE FROM pgflow.batch_keys AS k
  WHERE k.ctid = ANY(ARRAY(SELECT k.ctid FROM pgflow.batch_keys AS k WHERE k.batch_id = ANY(old.ids) LIMIT p_limit));
  GET DIAGNOSTICS items = ROW_COUNT;
  batches := 0;
  IF items < p_limit AND old.ids IS NOT NULL THEN
    PERFORM pgflow.delete_flow_and_data(b.flow_slug) FROM unnest(old.flow_slugs) AS b (flow_slug);
    batches := old.count;
  END IF;
  RETURN NEXT;
END
$$;
