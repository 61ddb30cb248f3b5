-- Start runs of one flow, everything in them that can start included; run_ids[i] gets inputs[i].
CREATE FUNCTION pgflow._start_runs(p_flow_slug text, run_ids uuid[], inputs jsonb[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  has_root_map boolean;
  unfit record;
BEGIN
  SELECT EXISTS (
    SELECT FROM pgflow.steps AS s
    WHERE s.flow_slug = p_flow_slug AND s.step_type = 'map' AND s.deps_count = 0
  ) INTO has_root_map;
  IF has_root_map THEN
    SELECT jsonb_typeof(b.input) AS type INTO unfit
    FROM unnest(inputs) AS b (input)
    WHERE jsonb_typeof(b.input) IS DISTINCT FROM 'array'
    LIMIT 1;
    IF FOUND AND unfit.type IS NULL THEN
      RAISE EXCEPTION 'Flow % has root map steps but input is NULL', p_flow_slug;
    ELSIF FOUND THEN
      RAISE EXCEPTION 'Flow % has root map steps but input is not an array (got %)', p_flow_slug, unfit.type;
    END IF;
  END IF;

  INSERT INTO pgflow.runs (run_id, flow_slug, input, remaining_steps)
  SELECT b.run_id, p_flow_slug, b.input, (SELECT count(*) FROM pgflow.steps AS s WHERE s.flow_slug = p_flow_slug)
  FROM unnest(run_ids, inputs) AS b (run_id, input)
  ORDER BY b.run_id;

  INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks)
  SELECT
    s.flow_slug,
    b.run_id,
    s.step_slug,
    s.deps_count,
    CASE
      WHEN s.step_type = 'single' THEN 1
      WHEN s.deps_count = 0 THEN jsonb_array_length(b.input)
    END
  FROM unnest(run_ids, inputs) AS b (run_id, input)
  CROSS JOIN LATERAL (
    SELECT s.flow_slug, s.step_slug, s.deps_count, s.step_type
    FROM pgflow.steps AS s
    WHERE s.flow_slug = p_flow_slug
    ORDER BY s.step_index
    OFFSET 0
  ) AS s;

  PERFORM pgflow._emit_run_events('started', run_ids);
  PERFORM pgflow._advance_runs(run_ids);
END
$$;
