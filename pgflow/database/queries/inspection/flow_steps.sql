SELECT
  s.step_slug,
  s.step_type AS kind,
  ARRAY(
    SELECT d.dep_slug
    FROM pgflow.deps AS d
    JOIN pgflow.steps AS p ON p.flow_slug = d.flow_slug AND p.step_slug = d.dep_slug
    WHERE d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
    ORDER BY p.step_index
  ) AS depends_on,
  coalesce(s.opt_timeout, f.opt_timeout) AS timeout,
  coalesce(s.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
  coalesce(s.opt_base_delay, f.opt_base_delay) AS base_delay,
  coalesce(s.opt_start_delay, 0) AS start_delay,
  s.required_input_pattern::text AS required_input_pattern,
  s.forbidden_input_pattern::text AS forbidden_input_pattern,
  s.when_unmet,
  s.when_exhausted
FROM pgflow.steps AS s
JOIN pgflow.flows AS f ON f.flow_slug = s.flow_slug
WHERE s.flow_slug = %(flow_slug)s
ORDER BY s.step_index
