-- Ours: show that somebody works for a batch, so that it is not pruned; whether it is still this pass.
CREATE FUNCTION pgflow.touch_batch(p_batch_id bigint, p_pass int)
RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.batches AS b SET touched_at = now() WHERE b.batch_id = p_batch_id AND b.pass = p_pass;
  RETURN FOUND;
END
$$;
