-- Of tasks that are ready to complete, find those whose output cannot feed the map that waits for it: a single step's output
-- that is no array although a dependent map takes its elements from it. The first such task of a run is judged 'failed',
-- and map_slugs names its map; further ones of the run are 'over'. `any_attempt` says that the batch does not fence: then
-- a task need not be started to fail so.
CREATE FUNCTION pgflow._judge_outputs(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  any_attempt boolean,
  INOUT judgements text[],
  OUT map_slugs text[]
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  violation record;
BEGIN
  -- Most steps feed no map, which is seen by their definitions alone.
  IF NOT EXISTS (
    SELECT
    FROM (
      -- Not by the index on flow_slug: a plan made while there are a few runs takes it for its order, and reads all runs.
      SELECT DISTINCT r.flow_slug || '' AS flow_slug FROM pgflow.runs AS r WHERE r.run_id = ANY(run_ids)
    ) AS f
    CROSS JOIN (SELECT DISTINCT b.step_slug FROM unnest(step_slugs) AS b (step_slug)) AS b
    CROSS JOIN LATERAL (
      SELECT
      FROM pgflow.deps AS d
      JOIN pgflow.steps AS definition
        ON definition.flow_slug = d.flow_slug AND definition.step_slug = d.step_slug
      WHERE d.flow_slug = f.flow_slug AND d.dep_slug = b.step_slug AND definition.step_type = 'map'
      OFFSET 0
    ) AS map
  ) THEN
    RETURN;
  END IF;

  SELECT
    array_agg(v.position) AS positions,
    array_agg(v.map_slug) AS map_slugs,
    array_agg(v.place) AS places
  INTO violation
  FROM (
    SELECT v.*, row_number() OVER (PARTITION BY v.run_id ORDER BY v.position) AS place
    FROM (
      SELECT DISTINCT ON (b.position) b.position, b.run_id, child.step_slug AS map_slug
      FROM unnest(run_ids, step_slugs, task_indexes, outputs, judgements)
        WITH ORDINALITY AS b (run_id, step_slug, task_index, output, judgement, position)
      CROSS JOIN LATERAL (
        SELECT t.flow_slug, t.step_slug, t.status
        FROM pgflow.step_tasks AS t
        WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
        OFFSET 0
      ) AS t
      CROSS JOIN LATERAL (
        SELECT definition.step_slug, definition.step_index
        FROM pgflow.deps AS d
        JOIN pgflow.steps AS definition
          ON definition.flow_slug = t.flow_slug AND definition.step_slug = d.step_slug
        WHERE d.flow_slug = t.flow_slug AND d.dep_slug = t.step_slug AND definition.step_type = 'map'
        OFFSET 0
      ) AS child
      WHERE (b.judgement = 'ready' OR (any_attempt AND b.judgement = 'stale' AND t.status = 'queued'))
        AND jsonb_typeof(b.output) IS DISTINCT FROM 'array'
        AND (
          SELECT definition.step_type
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
        ) = 'single'
        AND EXISTS (
          SELECT
          FROM pgflow.step_states AS waiting
          WHERE waiting.run_id = b.run_id AND waiting.step_slug = child.step_slug AND waiting.initial_tasks IS NULL
          OFFSET 0
        )
      ORDER BY b.position, child.step_index
    ) AS v
  ) AS v;
  IF violation.positions IS NULL THEN
    RETURN;
  END IF;

  SELECT
    array_agg(
      CASE WHEN v.position IS NULL THEN b.judgement WHEN v.place = 1 THEN 'failed' ELSE 'over' END ORDER BY b.position
    ),
    array_agg(CASE WHEN v.place = 1 THEN v.map_slug END ORDER BY b.position)
  INTO judgements, map_slugs
  FROM unnest(judgements) WITH ORDINALITY AS b (judgement, position)
  LEFT JOIN LATERAL (
    SELECT v.position, v.map_slug, v.place
    FROM unnest(violation.positions, violation.map_slugs, violation.places) AS v (position, map_slug, place)
    WHERE v.position = b.position
    OFFSET 0
  ) AS v ON true;
END
$$;
