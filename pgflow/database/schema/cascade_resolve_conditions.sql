-- Decide the conditions of a run's ready steps; whether the run has not failed.
CREATE FUNCTION pgflow.cascade_resolve_conditions(run_id uuid)
RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._resolve_conditions(ARRAY[cascade_resolve_conditions.run_id]);
  RETURN NOT EXISTS (
    SELECT FROM pgflow.runs AS r WHERE r.run_id = cascade_resolve_conditions.run_id AND r.status = 'failed'
  );
END
$$;
