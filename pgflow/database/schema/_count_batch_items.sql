-- How many items a batch has, and how many of them run or will, and are not in its files: without those that have failed and
-- wait for retry_batch_failures.
CREATE FUNCTION pgflow._count_batch_items(p_batch_id bigint)
RETURNS TABLE (items bigint, unwritten bigint)
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT
    b.items,
    (
      SELECT coalesce(sum(r.unwritten - bit_count(r.failed & ~r.written)), 0)::bigint
      FROM pgflow.batch_runs AS r
      WHERE r.batch_id = b.batch_id AND r.unwritten > 0
    )
  FROM pgflow.batches AS b
  WHERE b.batch_id = p_batch_id;
END
$$;
