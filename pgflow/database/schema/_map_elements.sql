-- The array whose elements a map step works on: the run's input, or its dependency's output.
CREATE FUNCTION pgflow._map_elements(p_flow_slug text, p_run_id uuid, p_step_slug text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  parent_slug text;
BEGIN
  SELECT d.dep_slug INTO parent_slug
  FROM pgflow.deps AS d
  WHERE d.flow_slug = p_flow_slug AND d.step_slug = p_step_slug;

  IF parent_slug IS NULL THEN
    RETURN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = p_run_id);
  END IF;
  RETURN (
    SELECT s.output FROM pgflow.step_states AS s WHERE s.run_id = p_run_id AND s.step_slug = parent_slug
  );
END
$$;
