-- Start a run of a batch for these items; `p_keys` has 16 bytes for each of them.
CREATE FUNCTION pgflow._start_batch_run(p_batch_id bigint, p_items jsonb, p_item_indexes bigint[], p_keys bytea)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  item_count CONSTANT int := cardinality(p_item_indexes);
  new_run_id CONSTANT uuid := pgflow._new_run_id();
  none CONSTANT bit varying := repeat('0', item_count)::bit varying;
BEGIN
  INSERT INTO pgflow.batch_runs (run_id, batch_id, item_count, unwritten, written, failed, item_indexes, keys)
  VALUES (
    new_run_id, p_batch_id, item_count, item_count, none, none, p_item_indexes, p_keys
  );
  PERFORM pgflow._start_runs(b.flow_slug, ARRAY[new_run_id], ARRAY[p_items])
  FROM pgflow.batches AS b
  WHERE b.batch_id = p_batch_id;
END
$$;
