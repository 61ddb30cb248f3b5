-- How two shapes differ, in words; empty when they do not. Steps are compared by position. A key that is missing on one
-- side is no difference, except for the patterns.
CREATE FUNCTION pgflow._compare_flow_shapes(p_local jsonb, p_db jsonb)
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  WITH step AS (
    SELECT
      coalesce(l.position, d.position) - 1 AS index,
      l.shape AS local,
      d.shape AS db,
      (
        SELECT string_agg(a.slug, ', ' ORDER BY a.slug)
        FROM jsonb_array_elements_text(l.shape -> 'dependencies') AS a (slug)
      ) AS local_dependencies,
      (
        SELECT string_agg(a.slug, ', ' ORDER BY a.slug)
        FROM jsonb_array_elements_text(d.shape -> 'dependencies') AS a (slug)
      ) AS db_dependencies
    FROM jsonb_array_elements(p_local -> 'steps') WITH ORDINALITY AS l (shape, position)
    FULL JOIN jsonb_array_elements(p_db -> 'steps') WITH ORDINALITY AS d (shape, position)
      ON d.position = l.position
  ),
  difference (index, field, text) AS (
    SELECT
      step.index,
      0,
      CASE
        WHEN step.local IS NULL THEN format('missing in first shape (second has ''%s'')', step.db ->> 'slug')
        ELSE format('missing in second shape (first has ''%s'')', step.local ->> 'slug')
      END
    FROM step
    WHERE step.local IS NULL OR step.db IS NULL
    UNION ALL
    SELECT
      step.index,
      field.number,
      format('%s differs ''%s'' vs ''%s''', field.name, step.local ->> field.key, step.db ->> field.key)
    FROM step
    CROSS JOIN (
      VALUES
        (1, 'slug', 'slug'),
        (2, 'type', 'stepType'),
        (4, 'whenUnmet', 'whenUnmet'),
        (5, 'whenExhausted', 'whenExhausted')
    ) AS field (number, name, key)
    WHERE step.local ->> field.key <> step.db ->> field.key
    UNION ALL
    SELECT
      step.index,
      3,
      format('dependencies differ [%s] vs [%s]', step.local_dependencies, step.db_dependencies)
    FROM step
    WHERE step.local IS NOT NULL
      AND step.db IS NOT NULL
      AND step.local_dependencies IS DISTINCT FROM step.db_dependencies
    UNION ALL
    SELECT
      step.index,
      field.number,
      format('%s differs ''%s'' vs ''%s''', field.key, step.local -> field.key, step.db -> field.key)
    FROM step
    CROSS JOIN (VALUES (6, 'requiredInputPattern'), (7, 'forbiddenInputPattern')) AS field (number, key)
    WHERE step.local IS NOT NULL
      AND step.db IS NOT NULL
      AND step.local -> field.key IS DISTINCT FROM step.db -> field.key
  ),
  steps (local, db) AS (
    SELECT jsonb_array_length(p_local -> 'steps'), jsonb_array_length(p_db -> 'steps')
  )
  SELECT
    (
      SELECT CASE
        WHEN steps.local <> steps.db THEN ARRAY[format('Step count differs: %s vs %s', steps.local, steps.db)]
        ELSE '{}'
      END
      FROM steps
    )
    || ARRAY(
      SELECT format('Step at index %s: %s', d.index, d.text)
      FROM difference AS d
      ORDER BY d.index, d.field
    )
$$;
