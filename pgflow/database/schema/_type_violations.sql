-- The tasks of a batch whose outputs cannot feed a waiting map: a single step's output that is no array although a
-- dependent map takes its elements from it. `type` is what the output is.
CREATE FUNCTION pgflow._type_violations(run_ids uuid[], step_slugs text[], outputs jsonb[])
RETURNS TABLE (ordinal int, type text, map_slug text)
LANGUAGE sql
STABLE
SET search_path TO ''
AS $$
  SELECT DISTINCT ON (b.position)
    b.position::int,
    coalesce(jsonb_typeof(b.output), 'null'),
    child.step_slug
  FROM unnest(run_ids, step_slugs, outputs) WITH ORDINALITY AS b (run_id, step_slug, output, position)
  JOIN pgflow.step_states AS s ON s.run_id = b.run_id AND s.step_slug = b.step_slug
  JOIN pgflow.steps AS parent ON parent.flow_slug = s.flow_slug AND parent.step_slug = s.step_slug
  JOIN pgflow.deps AS d ON d.flow_slug = s.flow_slug AND d.dep_slug = s.step_slug
  JOIN pgflow.steps AS child ON child.flow_slug = d.flow_slug AND child.step_slug = d.step_slug
  JOIN pgflow.step_states AS waiting ON waiting.run_id = s.run_id AND waiting.step_slug = child.step_slug
  WHERE parent.step_type = 'single'
    AND child.step_type = 'map'
    AND waiting.initial_tasks IS NULL
    AND jsonb_typeof(b.output) IS DISTINCT FROM 'array'
  ORDER BY b.position, child.step_index
$$;
