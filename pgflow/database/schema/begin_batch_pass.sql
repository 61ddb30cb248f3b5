-- Ours: go through the input of a batch once more; the number of the pass, with which whoever worked for the batch before
-- can do nothing more for it. Files that are new to the batch are added, those in p_emptied begin anew. Where 'errors' is one
-- of them the items that have failed are to run again: no longer written, until retry_batch_failures or, if this pass is
-- interrupted, that of a later one comes to them.
CREATE FUNCTION pgflow.begin_batch_pass(
  p_batch_id bigint, p_reference text, p_kinds text[], p_paths text[], p_emptied text[]
)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  new_pass int;
BEGIN
  PERFORM pgflow._check_lengths(
    'begin_batch_pass', ARRAY['p_kinds', 'p_paths'], ARRAY[cardinality(p_kinds), cardinality(p_paths)]
  );
  -- Who marks items as written shares the row, who adds some changes it: both are waited for.
  PERFORM FROM pgflow.batches AS b WHERE b.batch_id = p_batch_id FOR UPDATE;
  UPDATE pgflow.batches AS b
  SET pass = b.pass + 1, chunks = 0, reference = p_reference, touched_at = now()
  WHERE b.batch_id = p_batch_id
  RETURNING b.pass INTO new_pass;

  INSERT INTO pgflow.batch_files AS f (batch_id, kind, path)
  SELECT p_batch_id, n.kind, n.path
  FROM unnest(p_kinds, p_paths) AS n (kind, path)
  WHERE new_pass IS NOT NULL
  ON CONFLICT ON CONSTRAINT batch_files_pkey DO NOTHING;
  UPDATE pgflow.batch_files AS f SET size = 0 WHERE f.batch_id = p_batch_id AND f.kind = ANY(p_emptied);
  IF 'errors' = ANY(p_emptied) THEN
    UPDATE pgflow.batch_runs AS r
    SET written = r.written & ~r.failed, unwritten = r.item_count - bit_count(r.written & ~r.failed)::int
    WHERE r.batch_id = p_batch_id AND r.failures > 0;
  END IF;
  RETURN new_pass;
END
$$;
