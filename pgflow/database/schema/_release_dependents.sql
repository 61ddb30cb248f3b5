-- Steps have completed or were skipped: their dependents wait for that many fewer, and a dependent map learns how many
-- tasks it has. A skipped parent gives a map no elements.
CREATE FUNCTION pgflow._release_dependents(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  WITH dependent AS (
    SELECT
      parent.run_id,
      child.step_slug,
      count(*) AS ended,
      -- A map has one dependency, so there is one value here.
      max(
        CASE
          WHEN child.step_type <> 'map' THEN NULL
          WHEN parent.status = 'skipped' THEN 0
          WHEN parent.initial_tasks = 0 OR parent.step_type = 'map' THEN parent.initial_tasks
          WHEN jsonb_typeof(parent.output) = 'array' THEN jsonb_array_length(parent.output)
        END
      ) AS elements
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (
      SELECT
        s.flow_slug,
        s.run_id,
        s.step_slug,
        s.status,
        s.initial_tasks,
        s.output,
        (
          SELECT definition.step_type
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        ) AS step_type
      FROM pgflow.step_states AS s
      WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug
      OFFSET 0
    ) AS parent
    CROSS JOIN LATERAL (
      SELECT definition.step_slug, definition.step_type
      FROM pgflow.deps AS d
      JOIN pgflow.steps AS definition
        ON definition.flow_slug = parent.flow_slug AND definition.step_slug = d.step_slug
      WHERE d.flow_slug = parent.flow_slug AND d.dep_slug = parent.step_slug
      OFFSET 0
    ) AS child
    GROUP BY parent.run_id, child.step_slug
  )
  UPDATE pgflow.step_states AS s
  SET
    remaining_deps = s.remaining_deps - dependent.ended,
    initial_tasks = coalesce(s.initial_tasks, dependent.elements)
  FROM dependent
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = dependent.run_id AND k.step_slug = dependent.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid;
END
$$;
