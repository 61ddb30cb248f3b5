-- Tell workers that wait for tasks of these flows that there may be some. While nobody waits nothing is sent, so a burst
-- of thousands of messages does not send thousands of notifications.
--
-- The lock is shared by all who queue tasks, for the rest of their transactions. A worker begins to wait only where nobody
-- holds it: so either its next look finds the tasks, or whoever queued them finds the worker waiting. `await_tasks`.
CREATE FUNCTION pgflow._wake_workers(flow_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT DISTINCT f.slug FROM unnest(flow_slugs) AS f (slug) ORDER BY f.slug
  LOOP
    PERFORM pg_advisory_xact_lock_shared(3, hashtext(queue.slug));
    IF EXISTS (
      SELECT
      FROM pgflow.waiting_workers AS waiting
      JOIN pgflow.workers AS w ON w.worker_id = waiting.worker_id
      WHERE waiting.flow_slug = queue.slug
        AND w.stopped_at IS NULL
        AND w.last_heartbeat_at > now() - interval '60 seconds'
    ) THEN
      PERFORM pg_notify('pgflow_tasks', queue.slug);
    END IF;
  END LOOP;
END
$$;
