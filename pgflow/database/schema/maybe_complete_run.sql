-- Complete a run that has no steps left.
CREATE FUNCTION pgflow.maybe_complete_run(run_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM pgflow.runs AS r WHERE r.run_id = maybe_complete_run.run_id FOR UPDATE;
  PERFORM pgflow._complete_runs(ARRAY[maybe_complete_run.run_id], 0);
END
$$;
