-- Skip a step and everything that depends on it; returns how many steps were skipped.
CREATE FUNCTION pgflow._cascade_force_skip_steps(run_id uuid, step_slug text, skip_reason text)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM pgflow.runs AS r WHERE r.run_id = _cascade_force_skip_steps.run_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Run not found: %', _cascade_force_skip_steps.run_id;
  END IF;
  RETURN pgflow._skip_steps_and_dependents(
    ARRAY[_cascade_force_skip_steps.run_id],
    ARRAY[_cascade_force_skip_steps.step_slug],
    _cascade_force_skip_steps.skip_reason
  );
END
$$;
