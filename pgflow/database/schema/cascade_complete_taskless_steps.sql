-- Complete a run's steps without tasks, and those behind them that have none either; how many there were.
CREATE FUNCTION pgflow.cascade_complete_taskless_steps(run_id uuid)
RETURNS int
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  RETURN pgflow._complete_taskless_steps(ARRAY[cascade_complete_taskless_steps.run_id]);
END
$$;
