-- Complete the ready steps that have no tasks, and those that become so, wave by wave; how many there were.
CREATE FUNCTION pgflow._complete_taskless_steps(run_ids uuid[])
RETURNS int
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  waves int := 0;
  wave_runs uuid[];
  wave_steps text[];
  completed int := 0;
BEGIN
  LOOP
    WITH wave AS (
      UPDATE pgflow.step_states AS s
      SET
        status = 'completed',
        started_at = now(),
        completed_at = now(),
        remaining_tasks = 0,
        output = CASE WHEN definition.step_type = 'map' THEN '[]'::jsonb END
      FROM pgflow.steps AS definition
      WHERE s.run_id = ANY(_complete_taskless_steps.run_ids)
        AND s.status = 'created'
        AND s.remaining_deps = 0
        AND s.initial_tasks = 0
        AND definition.flow_slug = s.flow_slug
        AND definition.step_slug = s.step_slug
      RETURNING s.run_id, s.step_slug
    )
    SELECT array_agg(w.run_id), array_agg(w.step_slug) INTO wave_runs, wave_steps FROM wave AS w;
    EXIT WHEN wave_runs IS NULL;

    waves := waves + 1;
    IF waves > 50 THEN
      RAISE EXCEPTION 'Cascade loop exceeded safety limit of 50 iterations';
    END IF;
    completed := completed + cardinality(wave_runs);
    PERFORM pgflow._release_dependents(wave_runs, wave_steps);
  END LOOP;
  RETURN completed;
END
$$;
