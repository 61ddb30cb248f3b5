-- Start a run; returns the run and its step states as JSON.
CREATE FUNCTION pgflow.start_flow_with_states(flow_slug text, input jsonb, run_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT pgflow.get_run_with_states(r.run_id)
    FROM pgflow.start_flow(
      start_flow_with_states.flow_slug, start_flow_with_states.input, start_flow_with_states.run_id
    ) AS r
  );
END
$$;
