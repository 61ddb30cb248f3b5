-- How the options of a flow and its steps differ from those of a shape, in words: present -> wanted. An option that the shape
-- does not name has its default.
CREATE FUNCTION pgflow._option_differences(p_flow_slug text, p_shape jsonb)
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT coalesce(
    array_agg(
      format(
        '%s%s: %s -> %s',
        'step ' || o.step_slug || ': ', o.name, coalesce(o.present, o.fallback), coalesce(o.wanted, o.fallback)
      )
      ORDER BY o.step_index, o.position
    ),
    '{}'
  )
  FROM (
    SELECT NULL AS step_slug, -1 AS step_index, v.*, NULL AS fallback
    FROM pgflow.flows AS f
    CROSS JOIN LATERAL (
      VALUES
        (1, 'max_attempts', f.opt_max_attempts::text, coalesce(p_shape #>> '{options,maxAttempts}', '3')),
        (2, 'base_delay', f.opt_base_delay::text, coalesce(p_shape #>> '{options,baseDelay}', '5')),
        (3, 'timeout', f.opt_timeout::text, coalesce(p_shape #>> '{options,timeout}', '60'))
    ) AS v (position, name, present, wanted)
    WHERE f.flow_slug = p_flow_slug
    UNION ALL
    SELECT s.step_slug, s.step_index, v.*
    FROM jsonb_array_elements(p_shape -> 'steps') AS e (step)
    JOIN pgflow.steps AS s ON s.flow_slug = p_flow_slug AND s.step_slug = e.step ->> 'slug'
    CROSS JOIN LATERAL (
      VALUES
        (1, 'max_attempts', s.opt_max_attempts::text, e.step #>> '{options,maxAttempts}', 'the flow''s'),
        (2, 'base_delay', s.opt_base_delay::text, e.step #>> '{options,baseDelay}', 'the flow''s'),
        (3, 'timeout', s.opt_timeout::text, e.step #>> '{options,timeout}', 'the flow''s'),
        (4, 'start_delay', s.opt_start_delay::text, e.step #>> '{options,startDelay}', 'none'),
        (
          5,
          'when_exhausted',
          (
            SELECT 'record' FROM pgflow.recording_steps AS r
            WHERE r.flow_slug = s.flow_slug AND r.step_slug = s.step_slug
          ),
          CASE WHEN (e.step #> '{options,recordFailures}') = 'true' THEN 'record' END,
          s.when_exhausted
        )
    ) AS v (position, name, present, wanted, fallback)
  ) AS o
  WHERE o.present IS DISTINCT FROM o.wanted
$$;
