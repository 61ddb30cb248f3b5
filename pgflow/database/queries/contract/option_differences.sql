-- How the options of a flow and its steps differ from those of a shape, as pgflow._option_differences of our SQL core, which
-- also knows of steps that record failures.
SELECT coalesce(
  array_agg(
    format(
      '%%s%%s: %%s -> %%s',
      'step ' || o.step_slug || ': ', o.name, coalesce(o.present, o.fallback), coalesce(o.wanted, o.fallback)
    )
    ORDER BY o.step_index, o.position
  ),
  '{}'
) AS differences
FROM (
  SELECT NULL AS step_slug, -1 AS step_index, v.*, NULL AS fallback
  FROM pgflow.flows AS f
  CROSS JOIN LATERAL (
    VALUES
      (1, 'max_attempts', f.opt_max_attempts::text, coalesce(%(shape)s::jsonb #>> '{options,maxAttempts}', '3')),
      (2, 'base_delay', f.opt_base_delay::text, coalesce(%(shape)s::jsonb #>> '{options,baseDelay}', '5')),
      (3, 'timeout', f.opt_timeout::text, coalesce(%(shape)s::jsonb #>> '{options,timeout}', '60'))
  ) AS v (position, name, present, wanted)
  WHERE f.flow_slug = %(flow_slug)s
  UNION ALL
  SELECT s.step_slug, s.step_index, v.*
  FROM jsonb_array_elements(%(shape)s::jsonb -> 'steps') AS e (step)
  JOIN pgflow.steps AS s ON s.flow_slug = %(flow_slug)s AND s.step_slug = e.step ->> 'slug'
  CROSS JOIN LATERAL (
    VALUES
      (1, 'max_attempts', s.opt_max_attempts::text, e.step #>> '{options,maxAttempts}', 'the flow''s'),
      (2, 'base_delay', s.opt_base_delay::text, e.step #>> '{options,baseDelay}', 'the flow''s'),
      (3, 'timeout', s.opt_timeout::text, e.step #>> '{options,timeout}', 'the flow''s'),
      (4, 'start_delay', s.opt_start_delay::text, e.step #>> '{options,startDelay}', 'none')
  ) AS v (position, name, present, wanted, fallback)
) AS o
WHERE o.present IS DISTINCT FROM o.wanted
