-- Delete the batches of a flow with what is known of their items; their runs stay.
CREATE FUNCTION pgflow._delete_batches(p_flow_slug text)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  batch_ids CONSTANT bigint[] := ARRAY(
    SELECT b.batch_id FROM pgflow.batches AS b WHERE b.flow_slug = p_flow_slug ORDER BY b.batch_id FOR UPDATE
  );
BEGIN
  DELETE FROM pgflow.batch_keys AS k WHERE k.batch_id = ANY(batch_ids);
  DELETE FROM pgflow.batch_runs AS r WHERE r.batch_id = ANY(batch_ids);
  DELETE FROM pgflow.batches AS b WHERE b.batch_id = ANY(batch_ids);
END
$$;
