-- Bring a flow's definition in the database up to the code's shape, or say how they differ. One at a time per flow.
CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb, allow_data_loss boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  differences text[];
BEGIN
  PERFORM pg_advisory_xact_lock(1, hashtext(ensure_flow_compiled.flow_slug));

  IF NOT EXISTS (SELECT FROM pgflow.flows AS f WHERE f.flow_slug = ensure_flow_compiled.flow_slug) THEN
    PERFORM pgflow._create_flow_from_shape(ensure_flow_compiled.flow_slug, shape);
    RETURN jsonb_build_object('status', 'compiled', 'differences', '[]'::jsonb);
  END IF;

  differences := pgflow._compare_flow_shapes(shape, pgflow._get_flow_shape(ensure_flow_compiled.flow_slug));
  IF differences = '{}' THEN
    RETURN jsonb_build_object('status', 'verified', 'differences', '[]'::jsonb);
  END IF;
  IF NOT (coalesce(allow_data_loss, false) OR pgflow.is_local()) THEN
    RETURN jsonb_build_object('status', 'mismatch', 'differences', to_jsonb(differences));
  END IF;
  PERFORM pgflow.delete_flow_and_data(ensure_flow_compiled.flow_slug);
  PERFORM pgflow._create_flow_from_shape(ensure_flow_compiled.flow_slug, shape);
  RETURN jsonb_build_object('status', 'recompiled', 'differences', to_jsonb(differences));
END
$$;
