-- The array whose elements a map step works on: the run's input, or its dependency's output.
CREATE FUNCTION pgflow._map_elements(p_flow_slug text, p_run_id uuid, p_step_slug text)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path TO ''
AS $$
  SELECT CASE
    WHEN d.dep_slug IS NULL THEN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = p_run_id)
    ELSE (
      SELECT s.output FROM pgflow.step_states AS s WHERE s.run_id = p_run_id AND s.step_slug = d.dep_slug
    )
  END
  FROM pgflow.steps AS definition
  LEFT JOIN pgflow.deps AS d ON d.flow_slug = definition.flow_slug AND d.step_slug = definition.step_slug
  WHERE definition.flow_slug = p_flow_slug AND definition.step_slug = p_step_slug
$$;
