-- Lock a run and all its step states, in the order of all others; its status, or NULL if there is none.
CREATE FUNCTION pgflow._lock_run(p_run_id uuid)
RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  run_status text;
BEGIN
  SELECT r.status INTO run_status FROM pgflow.runs AS r WHERE r.run_id = p_run_id FOR UPDATE;
  PERFORM FROM pgflow.step_states AS s WHERE s.run_id = p_run_id ORDER BY s.step_slug FOR UPDATE;
  RETURN run_status;
END
$$;
