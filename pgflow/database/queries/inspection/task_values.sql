-- A task's input, as its handler gets it, and its output, as much of them as is wanted. The input of a map's task is an
-- element of the run's input, or of its dependency's output; a dependent step's are the outputs of its completed dependencies.
SELECT
  v.name,
  octet_length(v.text) AS bytes,
  length(v.text) AS characters,
  left(v.text, %(characters)s) AS text
FROM pgflow.step_tasks AS t
JOIN pgflow.runs AS r ON r.run_id = t.run_id
JOIN pgflow.steps AS definition
  ON definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
LEFT JOIN LATERAL (
  SELECT jsonb_object_agg(s.step_slug, s.output) AS outputs
  FROM pgflow.deps AS d
  JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = d.dep_slug AND s.status = 'completed'
  WHERE d.flow_slug = t.flow_slug AND d.step_slug = t.step_slug
) AS p ON definition.deps_count > 0
CROSS JOIN LATERAL (
  VALUES
    (
      'input',
      CASE
        WHEN definition.step_type <> 'map' AND definition.deps_count = 0 THEN r.input
        WHEN definition.step_type <> 'map' THEN coalesce(p.outputs, '{}')
        WHEN definition.deps_count = 0 THEN r.input -> t.task_index
        ELSE (SELECT e.value -> t.task_index FROM jsonb_each(p.outputs) AS e)
      END::text
    ),
    ('output', t.output::text)
) AS v (name, text)
WHERE t.run_id = %(run_id)s::uuid AND t.step_slug = %(step_slug)s AND t.task_index = %(task_index)s
