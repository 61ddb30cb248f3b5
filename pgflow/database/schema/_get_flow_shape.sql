-- A flow's shape as it is in the database, for comparison with the code's.
CREATE FUNCTION pgflow._get_flow_shape(p_flow_slug text)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'steps',
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'slug', s.step_slug,
          'stepType', s.step_type,
          'dependencies', (
            SELECT coalesce(jsonb_agg(d.dep_slug ORDER BY d.dep_slug), '[]'::jsonb)
            FROM pgflow.deps AS d
            WHERE d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
          ),
          'whenUnmet', s.when_unmet,
          'whenExhausted', s.when_exhausted,
          'requiredInputPattern', pgflow._pattern_shape(s.required_input_pattern),
          'forbiddenInputPattern', pgflow._pattern_shape(s.forbidden_input_pattern)
        )
        ORDER BY s.step_index
      ),
      '[]'::jsonb
    )
  )
  FROM pgflow.steps AS s
  WHERE s.flow_slug = p_flow_slug
$$;
