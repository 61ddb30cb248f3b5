-- Steps have completed or were skipped: their dependents wait for that many fewer, and a dependent map learns how many
-- tasks it has. A skipped parent gives a map no elements.
CREATE FUNCTION pgflow._release_dependents(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  released record;
BEGIN
  WITH dependent AS (
    SELECT
      parent.run_id,
      child.step_slug,
      count(*)::int AS ended,
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
  SELECT
    array_agg(d.run_id) AS run_ids,
    array_agg(d.step_slug) AS step_slugs,
    array_agg(d.ended) AS ended,
    array_agg(d.elements) AS elements
  INTO released
  FROM dependent AS d;
  IF released.run_ids IS NULL THEN
    RETURN;
  END IF;

  PERFORM pgflow._lock_steps(released.run_ids, released.step_slugs);
  UPDATE pgflow.step_states AS s
  SET
    remaining_deps = s.remaining_deps - d.ended,
    initial_tasks = CASE WHEN d.elements = 0 THEN 0 ELSE coalesce(s.initial_tasks, d.elements) END
  FROM unnest(released.run_ids, released.step_slugs, released.ended, released.elements)
    AS d (run_id, step_slug, ended, elements)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = d.run_id AND k.step_slug = d.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid;
END
$$;
