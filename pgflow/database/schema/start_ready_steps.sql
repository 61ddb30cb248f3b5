-- Start the ready steps of a run that is running.
CREATE FUNCTION pgflow.start_ready_steps(run_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._start_ready_steps(ARRAY[start_ready_steps.run_id]);
END
$$;
