-- Start a run; returns its row as it is when everything that can start has started.
CREATE FUNCTION pgflow.start_flow(flow_slug text, input jsonb, run_id uuid DEFAULT NULL)
RETURNS SETOF pgflow.runs
LANGUAGE plpgsql
SET search_path TO ''
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
AS $$
DECLARE
  has_root_map boolean;
  new_run_id uuid := coalesce(start_flow.run_id, gen_random_uuid());
  elements int;
BEGIN
  SELECT EXISTS (
    SELECT FROM pgflow.steps AS s
    WHERE s.flow_slug = start_flow.flow_slug AND s.step_type = 'map' AND s.deps_count = 0
  ) INTO has_root_map;
  IF has_root_map AND start_flow.input IS NULL THEN
    RAISE EXCEPTION 'Flow % has root map steps but input is NULL', start_flow.flow_slug;
  END IF;
  IF has_root_map AND jsonb_typeof(start_flow.input) <> 'array' THEN
    RAISE EXCEPTION 'Flow % has root map steps but input is not an array (got %)',
      start_flow.flow_slug, jsonb_typeof(start_flow.input);
  END IF;
  IF has_root_map THEN
    elements := jsonb_array_length(start_flow.input);
  END IF;

  INSERT INTO pgflow.runs (run_id, flow_slug, input, remaining_steps)
  SELECT new_run_id, start_flow.flow_slug, start_flow.input, count(*)
  FROM pgflow.steps AS s
  WHERE s.flow_slug = start_flow.flow_slug;

  INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks)
  SELECT
    s.flow_slug,
    new_run_id,
    s.step_slug,
    s.deps_count,
    CASE
      WHEN s.step_type = 'single' THEN 1
      WHEN s.deps_count = 0 THEN elements
    END
  FROM pgflow.steps AS s
  WHERE s.flow_slug = start_flow.flow_slug;

  PERFORM pgflow._emit_run_events('started', ARRAY[new_run_id]);
  PERFORM pgflow._advance_runs(ARRAY[new_run_id]);
  RETURN QUERY SELECT * FROM pgflow.runs AS r WHERE r.run_id = new_run_id;
END
$$;
