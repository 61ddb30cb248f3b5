-- Start a run; returns its row as it is when everything that can start has started.
CREATE FUNCTION pgflow.start_flow(flow_slug text, input jsonb, run_id uuid DEFAULT NULL)
RETURNS SETOF pgflow.runs
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  new_run_id uuid := coalesce(start_flow.run_id, pgflow._new_run_id());
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4, hashtext(start_flow.flow_slug));  -- see _delete_flow_runs
  PERFORM pgflow._start_runs(start_flow.flow_slug, ARRAY[new_run_id], ARRAY[start_flow.input]);
  RETURN QUERY SELECT * FROM pgflow.runs AS r WHERE r.run_id = new_run_id;
END
$$;
