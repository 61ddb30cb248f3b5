SELECT pgflow.update_flow_options(
  f.flow_slug,
  jsonb_build_object(
    'options', jsonb_build_object(
      'maxAttempts', f.opt_max_attempts, 'baseDelay', f.opt_base_delay, 'timeout', f.opt_timeout
    ),
    'steps', jsonb_agg(
      jsonb_build_object(
        'slug', s.step_slug,
        'options', jsonb_strip_nulls(
          jsonb_build_object(
            'maxAttempts', s.opt_max_attempts,
            'baseDelay', s.opt_base_delay,
            'startDelay', s.opt_start_delay,
            'timeout', %(seconds)s::int,
            'recordFailures', true
          )
        )
      )
    )
  )
) AS changes
FROM pgflow.flows AS f
JOIN pgflow.steps AS s ON s.flow_slug = f.flow_slug
WHERE f.flow_slug = %(flow_slug)s
GROUP BY f.flow_slug
