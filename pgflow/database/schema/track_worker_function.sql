-- Make a worker's function known, or say that it was there again.
CREATE FUNCTION pgflow.track_worker_function(function_name text)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  INSERT INTO pgflow.worker_functions AS w (function_name, updated_at)
  VALUES (track_worker_function.function_name, clock_timestamp())
  ON CONFLICT ON CONSTRAINT worker_functions_pkey DO UPDATE SET updated_at = clock_timestamp()
$$;
