-- How two shapes differ, in words; empty when they do not. Steps are compared by position. A key that is missing on one
-- side is no difference, except for the patterns.
CREATE FUNCTION pgflow._compare_flow_shapes(p_local jsonb, p_db jsonb)
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path TO ''
AS $$
  WITH step AS (
    SELECT coalesce(l.position, d.position) - 1 AS index, l.shape AS local, d.shape AS db
    FROM jsonb_array_elements(p_local -> 'steps') WITH ORDINALITY AS l (shape, position)
    FULL JOIN jsonb_array_elements(p_db -> 'steps') WITH ORDINALITY AS d (shape, position)
      ON d.position = l.position
  ),
  dependencies AS (
    SELECT
      step.index,
      (SELECT string_agg(a.slug, ', ' ORDER BY a.slug) FROM jsonb_array_elements_text(step.local -> 'dependencies') AS a (slug)) AS local,
      (SELECT string_agg(a.slug, ', ' ORDER BY a.slug) FROM jsonb_array_elements_text(step.db -> 'dependencies') AS a (slug)) AS db
    FROM step
  ),
  difference AS (
    SELECT -1 AS index, 0 AS field, format('Step count differs: %s vs %s', jsonb_array_length(p_local -> 'steps'), jsonb_array_length(p_db -> 'steps')) AS text
    WHERE jsonb_array_length(p_local -> 'steps') <> jsonb_array_length(p_db -> 'steps')
    UNION ALL
    SELECT step.index, 0, format('Step at index %s: missing in first shape (second has ''%s'')', step.index, step.db ->> 'slug')
    FROM step WHERE step.local IS NULL
    UNION ALL
    SELECT step.index, 0, format('Step at index %s: missing in second shape (first has ''%s'')', step.index, step.local ->> 'slug')
    FROM step WHERE step.db IS NULL
    UNION ALL
    SELECT
      step.index,
      field.position,
      format('Step at index %s: %s differs ''%s'' vs ''%s''', step.index, field.name, step.local ->> field.key, step.db ->> field.key)
    FROM step
    CROSS JOIN (
      VALUES (1, 'slug', 'slug'), (2, 'type', 'stepType'), (4, 'whenUnmet', 'whenUnmet'), (5, 'whenExhausted', 'whenExhausted')
    ) AS field (position, name, key)
    WHERE step.local ->> field.key <> step.db ->> field.key
    UNION ALL
    SELECT
      d.index,
      3,
      format('Step at index %s: dependencies differ [%s] vs [%s]', d.index, d.local, d.db)
    FROM dependencies AS d
    JOIN step ON step.index = d.index AND step.local IS NOT NULL AND step.db IS NOT NULL
    WHERE d.local IS DISTINCT FROM d.db
    UNION ALL
    SELECT
      step.index,
      field.position,
      format('Step at index %s: %s differs ''%s'' vs ''%s''', step.index, field.key, step.local -> field.key, step.db -> field.key)
    FROM step
    CROSS JOIN (VALUES (6, 'requiredInputPattern'), (7, 'forbiddenInputPattern')) AS field (position, key)
    WHERE step.local IS NOT NULL
      AND step.db IS NOT NULL
      AND step.local -> field.key IS DISTINCT FROM step.db -> field.key
  )
  SELECT coalesce(array_agg(difference.text ORDER BY difference.index, difference.field), '{}')
  FROM difference
$$;
