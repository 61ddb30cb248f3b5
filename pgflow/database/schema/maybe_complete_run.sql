-- Complete a run that has no steps left.
CREATE FUNCTION pgflow.maybe_complete_run(run_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._complete_runs(ARRAY[maybe_complete_run.run_id]);
END
$$;
