-- Decide the conditions of steps that are ready, in runs that have not ended: a step whose input does not match its
-- patterns fails with its run, is skipped, or is skipped with everything that depends on it, as its when_unmet says.
-- Skipping makes further steps ready, so this goes on until every ready step's condition is met. Returns how many
-- steps ended here.
CREATE FUNCTION pgflow._resolve_conditions(run_ids uuid[])
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  passes int := 0;
  unmet record;
  failing record;
  skipping record;
  cascading record;
  ended int := 0;
BEGIN
  LOOP
    passes := passes + 1;
    IF passes > 50 THEN
      RAISE EXCEPTION 'cascade_resolve_conditions exceeded safety limit of 50 iterations';
    END IF;

    SELECT
      array_agg(s.run_id ORDER BY s.run_id, definition.step_index) AS run_ids,
      array_agg(s.step_slug ORDER BY s.run_id, definition.step_index) AS step_slugs,
      array_agg(definition.when_unmet ORDER BY s.run_id, definition.step_index) AS modes
    INTO unmet
    FROM pgflow.step_states AS s
    CROSS JOIN LATERAL (
      SELECT
        definition.step_index,
        definition.deps_count,
        definition.when_unmet,
        definition.required_input_pattern,
        definition.forbidden_input_pattern
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
      OFFSET 0
    ) AS definition
    CROSS JOIN LATERAL (
      SELECT
        CASE
          WHEN definition.deps_count = 0 THEN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = s.run_id)
          ELSE (  -- as _dependency_outputs has it, for all runs in this statement
            SELECT coalesce(jsonb_object_agg(parent.step_slug, parent.output), '{}'::jsonb)
            FROM pgflow.deps AS d
            CROSS JOIN LATERAL (
              SELECT p.step_slug, p.output
              FROM pgflow.step_states AS p
              WHERE p.run_id = s.run_id AND p.step_slug = d.dep_slug AND p.status = 'completed'
              OFFSET 0
            ) AS parent
            WHERE d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
          )
        END AS value
      OFFSET 0
    ) AS input
    WHERE s.run_id = ANY(run_ids)
      AND s.status = 'created'
      AND s.remaining_deps = 0
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started'
      AND (definition.required_input_pattern IS NOT NULL OR definition.forbidden_input_pattern IS NOT NULL)
      AND (
        NOT input.value @> definition.required_input_pattern
        OR input.value @> definition.forbidden_input_pattern
      );
    EXIT WHEN unmet.run_ids IS NULL;

    SELECT
      array_agg(f.run_id) AS run_ids,
      array_agg(f.step_slug) AS step_slugs,
      array_agg('Condition not met'::text) AS errors
    INTO failing
    FROM (
      SELECT DISTINCT ON (u.run_id) u.run_id, u.step_slug
      FROM unnest(unmet.run_ids, unmet.step_slugs, unmet.modes)
        WITH ORDINALITY AS u (run_id, step_slug, mode, position)
      WHERE u.mode = 'fail'
      ORDER BY u.run_id, u.position
    ) AS f;
    IF failing.run_ids IS NOT NULL THEN
      PERFORM pgflow._fail_steps(failing.run_ids, failing.step_slugs, failing.errors);
      ended := ended + cardinality(failing.run_ids);
    END IF;

    SELECT
      array_agg(u.run_id) AS run_ids,
      array_agg(u.step_slug) AS step_slugs,
      array_agg('condition_unmet'::text) AS reasons
    INTO skipping
    FROM unnest(unmet.run_ids, unmet.step_slugs, unmet.modes) AS u (run_id, step_slug, mode)
    WHERE u.mode = 'skip' AND u.run_id <> ALL(coalesce(failing.run_ids, '{}'));
    IF skipping.run_ids IS NOT NULL THEN
      ended := ended + pgflow._skip_steps(skipping.run_ids, skipping.step_slugs, skipping.reasons);
      PERFORM pgflow._release_dependents(skipping.run_ids, skipping.step_slugs);
    END IF;

    SELECT array_agg(u.run_id) AS run_ids, array_agg(u.step_slug) AS step_slugs
    INTO cascading
    FROM unnest(unmet.run_ids, unmet.step_slugs, unmet.modes) AS u (run_id, step_slug, mode)
    WHERE u.mode = 'skip-cascade' AND u.run_id <> ALL(coalesce(failing.run_ids, '{}'));
    IF cascading.run_ids IS NOT NULL THEN
      ended := ended
        + pgflow._skip_steps_and_dependents(cascading.run_ids, cascading.step_slugs, 'condition_unmet');
    END IF;

    -- Only a plain skip makes other steps ready.
    EXIT WHEN skipping.run_ids IS NULL;
  END LOOP;
  RETURN ended;
END
$$;
