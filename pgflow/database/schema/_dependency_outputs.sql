-- What a dependent step works on: the outputs of its completed dependencies by slug; skipped ones have no key.
CREATE FUNCTION pgflow._dependency_outputs(p_flow_slug text, p_run_id uuid, p_step_slug text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(s.step_slug, s.output), '{}'::jsonb)
    FROM pgflow.deps AS d
    JOIN pgflow.step_states AS s ON s.run_id = p_run_id AND s.step_slug = d.dep_slug
    WHERE d.flow_slug = p_flow_slug AND d.step_slug = p_step_slug AND s.status = 'completed'
  );
END
$$;
