-- Ours: a worker does not wait any more (see await_tasks).
CREATE FUNCTION pgflow.stop_awaiting_tasks(p_worker_ids uuid[])
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
  DELETE FROM pgflow.waiting_workers AS w WHERE w.worker_id = ANY(p_worker_ids)
$$;
