-- Bring runs as far as they come without a worker: decide conditions, complete steps without tasks, start what is
-- ready, complete what is finished. The caller holds the runs.
--
-- Conditions come before every single wave of steps without tasks, because each may make steps ready for the other:
-- else a step behind an empty map would start, or complete, although its condition is not met.
CREATE FUNCTION pgflow._advance_runs(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  waves int := 0;
  ready record;
BEGIN
  LOOP
    SELECT
      array_agg(DISTINCT s.run_id) AS run_ids,
      bool_or(definition.required_input_pattern IS NOT NULL OR definition.forbidden_input_pattern IS NOT NULL)
        AS has_conditions,
      bool_or(s.initial_tasks = 0) AS has_taskless
    INTO ready
    FROM pgflow.step_states AS s
    CROSS JOIN LATERAL (
      SELECT definition.required_input_pattern, definition.forbidden_input_pattern
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
      OFFSET 0
    ) AS definition
    WHERE s.run_id = ANY(_advance_runs.run_ids)
      AND s.status = 'created'
      AND s.remaining_deps = 0
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started';
    EXIT WHEN ready.run_ids IS NULL;

    CONTINUE WHEN ready.has_conditions AND pgflow._resolve_conditions(ready.run_ids) > 0;
    EXIT WHEN ready.has_taskless IS NOT TRUE;

    waves := waves + 1;
    IF waves > 50 THEN
      RAISE EXCEPTION 'Cascade loop exceeded safety limit of 50 iterations';
    END IF;
    PERFORM pgflow._complete_taskless_steps(ready.run_ids);
  END LOOP;

  IF ready.run_ids IS NOT NULL THEN
    PERFORM pgflow._start_ready_steps(ready.run_ids);
  END IF;
  IF EXISTS (
    SELECT
    FROM pgflow.runs AS r
    WHERE r.run_id = ANY(_advance_runs.run_ids) AND r.remaining_steps = 0 AND r.status || '' = 'started'
  ) THEN
    PERFORM pgflow._complete_runs(_advance_runs.run_ids, 0);
  END IF;
END
$$;
