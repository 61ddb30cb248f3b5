-- Steps have completed or were skipped: their dependents wait for that many fewer, and dependent maps learn how many
-- tasks they have; the runs have that many steps fewer left. A skipped parent gives a map no elements.
CREATE FUNCTION pgflow._release_dependents(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  WITH parent AS (
    SELECT s.run_id, s.flow_slug, s.step_slug, s.status, s.initial_tasks, s.output, definition.step_type
    FROM unnest(_release_dependents.run_ids, _release_dependents.step_slugs) AS p (run_id, step_slug)
    JOIN pgflow.step_states AS s ON s.run_id = p.run_id AND s.step_slug = p.step_slug
    JOIN pgflow.steps AS definition
      ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
  ),
  dependent AS (
    SELECT
      parent.run_id,
      d.step_slug,
      count(*) AS released,
      -- A map has one dependency, so there is one value here.
      max(
        CASE
          WHEN parent.status = 'skipped' THEN 0
          WHEN parent.step_type = 'map' THEN parent.initial_tasks
          WHEN jsonb_typeof(parent.output) = 'array' THEN jsonb_array_length(parent.output)
        END
      ) AS elements
    FROM parent
    JOIN pgflow.deps AS d ON d.flow_slug = parent.flow_slug AND d.dep_slug = parent.step_slug
    GROUP BY parent.run_id, d.step_slug
  )
  UPDATE pgflow.step_states AS s
  SET
    remaining_deps = s.remaining_deps - dependent.released,
    initial_tasks = CASE
      WHEN definition.step_type = 'map' AND s.initial_tasks IS NULL THEN dependent.elements
      ELSE s.initial_tasks
    END
  FROM dependent, pgflow.steps AS definition
  WHERE s.run_id = dependent.run_id
    AND s.step_slug = dependent.step_slug
    AND definition.flow_slug = s.flow_slug
    AND definition.step_slug = s.step_slug;

  UPDATE pgflow.runs AS r
  SET remaining_steps = r.remaining_steps - ended.steps
  FROM (
    SELECT p.run_id, count(*) AS steps
    FROM unnest(_release_dependents.run_ids) AS p (run_id)
    GROUP BY p.run_id
  ) AS ended
  WHERE r.run_id = ended.run_id;
END
$$;
