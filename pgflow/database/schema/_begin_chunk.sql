-- Whether the next chunk of a batch may be added in this pass: 'next', 'repeated' (it is there), or 'taken over' by another
-- pass. The batch is locked then, and no flow is deleted meanwhile; see _delete_flow_runs.
CREATE FUNCTION pgflow._begin_chunk(p_batch_id bigint, p_pass int, p_chunk int)
RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  last_chunk int;
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4, hashtext(b.flow_slug)) FROM pgflow.batches AS b WHERE b.batch_id = p_batch_id;
  SELECT b.chunks INTO last_chunk
  FROM pgflow.batches AS b
  WHERE b.batch_id = p_batch_id AND b.pass = p_pass
  FOR NO KEY UPDATE;
  IF last_chunk IS NULL THEN
    RETURN 'taken over';
  ELSIF last_chunk >= p_chunk THEN
    RETURN 'repeated';
  END IF;
  UPDATE pgflow.batches AS b SET chunks = p_chunk, touched_at = now() WHERE b.batch_id = p_batch_id;
  RETURN 'next';
END
$$;
