-- Define a flow and its steps from a shape.
CREATE FUNCTION pgflow._create_flow_from_shape(p_flow_slug text, p_shape jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow.create_flow(
    flow_slug => p_flow_slug,
    max_attempts => (p_shape #>> '{options,maxAttempts}')::int,
    base_delay => (p_shape #>> '{options,baseDelay}')::int,
    timeout => (p_shape #>> '{options,timeout}')::int
  );

  PERFORM pgflow.add_step(
    flow_slug => p_flow_slug,
    step_slug => step.shape ->> 'slug',
    deps_slugs => ARRAY(SELECT jsonb_array_elements_text(step.shape -> 'dependencies')),
    max_attempts => (step.shape #>> '{options,maxAttempts}')::int,
    base_delay => (step.shape #>> '{options,baseDelay}')::int,
    timeout => (step.shape #>> '{options,timeout}')::int,
    start_delay => (step.shape #>> '{options,startDelay}')::int,
    step_type => step.shape ->> 'stepType',
    required_input_pattern => pgflow._pattern_of_shape(step.shape -> 'requiredInputPattern'),
    forbidden_input_pattern => pgflow._pattern_of_shape(step.shape -> 'forbiddenInputPattern'),
    when_unmet => coalesce(step.shape ->> 'whenUnmet', 'skip'),
    when_exhausted => coalesce(step.shape ->> 'whenExhausted', 'fail')
  )
  FROM (
    SELECT e.shape
    FROM jsonb_array_elements(p_shape -> 'steps') WITH ORDINALITY AS e (shape, position)
    ORDER BY e.position
  ) AS step;
  PERFORM pgflow._record_failures_of_shape(p_flow_slug, p_shape);
END
$$;
