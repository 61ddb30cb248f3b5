-- Complete the ready steps that have no tasks, one wave of them; how many there were.
CREATE FUNCTION pgflow._complete_taskless_steps(run_ids uuid[])
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  wave record;
BEGIN
  WITH completed AS (
    UPDATE pgflow.step_states AS s
    SET
      status = 'completed',
      started_at = greatest(now(), s.created_at),
      completed_at = greatest(now(), s.created_at),
      remaining_tasks = 0,
      output = (
        SELECT '[]'::jsonb
        FROM pgflow.steps AS definition
        WHERE definition.flow_slug = s.flow_slug
          AND definition.step_slug = s.step_slug
          AND definition.step_type = 'map'
      )
    WHERE s.run_id = ANY(run_ids)
      AND s.status = 'created'
      AND s.remaining_deps = 0
      AND s.initial_tasks = 0
    RETURNING s.run_id, s.step_slug
  )
  SELECT array_agg(c.run_id) AS run_ids, array_agg(c.step_slug) AS step_slugs INTO wave
  FROM completed AS c;
  IF wave.run_ids IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM pgflow._emit_step_events('completed', wave.run_ids, wave.step_slugs, without_tasks => true);
  PERFORM pgflow._release_dependents(wave.run_ids, wave.step_slugs);
  PERFORM pgflow._count_ended_steps(wave.run_ids);
  RETURN cardinality(wave.run_ids);
END
$$;
