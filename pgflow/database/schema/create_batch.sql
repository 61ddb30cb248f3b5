-- Ours: make a batch of that name; its id, or NULL if there is one already.
CREATE FUNCTION pgflow.create_batch(
  p_name text, p_flow_slug text, p_target text, p_reference text, p_kinds text[], p_paths text[]
)
RETURNS bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  new_id bigint;
BEGIN
  PERFORM pgflow._check_lengths(
    'create_batch', ARRAY['p_kinds', 'p_paths'], ARRAY[cardinality(p_kinds), cardinality(p_paths)]
  );
  INSERT INTO pgflow.batches AS b (name, flow_slug, target, reference)
  VALUES (p_name, p_flow_slug, p_target, p_reference)
  ON CONFLICT ON CONSTRAINT batches_name_key DO NOTHING
  RETURNING b.batch_id INTO new_id;

  INSERT INTO pgflow.batch_files (batch_id, kind, path)
  SELECT new_id, f.kind, f.path
  FROM unnest(p_kinds, p_paths) AS f (kind, path)
  WHERE new_id IS NOT NULL;
  RETURN new_id;
END
$$;
