-- Ours: delete at most p_limit messages of each flow's archive that were archived before so long; how many there were.
CREATE FUNCTION pgflow.prune_archives(p_older_than interval, p_limit int)
RETURNS bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
  pruned bigint;
  total bigint := 0;
BEGIN
  FOR queue IN
    SELECT pgmq.format_table_name(f.flow_slug, 'a') AS archive
    FROM pgflow.flows AS f
    ORDER BY f.flow_slug
  LOOP
    CONTINUE WHEN to_regclass(format('pgmq.%I', queue.archive)) IS NULL;
    EXECUTE format(
      $query$
        DELETE FROM pgmq.%1$I AS a
        WHERE a.ctid = ANY(
          ARRAY(
            SELECT k.ctid FROM pgmq.%1$I AS k WHERE k.archived_at < $1 ORDER BY k.archived_at LIMIT $2 FOR UPDATE SKIP LOCKED
          )
        )
      $query$,
      queue.archive
    ) USING now() - p_older_than, p_limit;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    total := total + pruned;
  END LOOP;
  RETURN total;
END
$$;
