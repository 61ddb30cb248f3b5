-- Complete a run's ready steps without tasks, and those that become so, wave by wave; how many there were.
CREATE FUNCTION pgflow.cascade_complete_taskless_steps(run_id uuid)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  waves int := 0;
  wave int;
  completed int := 0;
BEGIN
  LOOP
    wave := pgflow._complete_taskless_steps(ARRAY[cascade_complete_taskless_steps.run_id]);
    EXIT WHEN wave = 0;
    waves := waves + 1;
    IF waves > 50 THEN
      RAISE EXCEPTION 'Cascade loop exceeded safety limit of 50 iterations';
    END IF;
    completed := completed + wave;
  END LOOP;
  RETURN completed;
END
$$;
