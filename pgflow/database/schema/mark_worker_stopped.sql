-- Note that a worker has ended.
CREATE FUNCTION pgflow.mark_worker_stopped(worker_id uuid)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  UPDATE pgflow.workers AS w
  SET stopped_at = clock_timestamp()
  WHERE w.worker_id = mark_worker_stopped.worker_id
$$;
