-- What workers of long ago called; it has nothing for them.
CREATE FUNCTION pgflow.poll_for_tasks(
  queue_name text, vt int, qty int, max_poll_seconds int DEFAULT 5, poll_interval_ms int DEFAULT 100
)
RETURNS SETOF pgflow.step_task_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RAISE NOTICE 'poll_for_tasks is deprecated and returns nothing: read the queue with pgmq, then call start_tasks';
END
$$;
