-- Bring running runs as far as they come without a worker: complete steps without tasks, start what is ready, complete
-- what is finished. The caller holds the runs' locks.
CREATE FUNCTION pgflow._advance_runs(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  running uuid[];
BEGIN
  SELECT array_agg(r.run_id) INTO running
  FROM pgflow.runs AS r
  WHERE r.run_id = ANY(run_ids) AND r.status = 'started';

  PERFORM pgflow._complete_taskless_steps(running);
  PERFORM pgflow._start_ready_steps(running);
  PERFORM pgflow._complete_runs(running);
END
$$;
