-- A run and its step states as JSON, the steps in the order of their definition; NULL when there is no such run.
CREATE FUNCTION pgflow.get_run_with_states(run_id uuid)
RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'run', to_jsonb(r),
      'steps', (
        SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY definition.step_index), '[]'::jsonb)
        FROM pgflow.step_states AS s
        JOIN pgflow.steps AS definition
          ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        WHERE s.run_id = r.run_id
      )
    )
    FROM pgflow.runs AS r
    WHERE r.run_id = get_run_with_states.run_id
  );
END
$$;
