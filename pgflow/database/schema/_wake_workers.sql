-- Tell workers that wait for tasks of these flows that there may be some. Who has been told does not wait any more until it
-- has looked and found nothing, so a burst of thousands of messages does not send thousands of notifications; while nobody
-- waits none is sent.
--
-- The lock is shared by all who queue tasks, for the rest of their transactions. A worker begins to wait only where nobody
-- holds it: so either its next look finds the tasks, or whoever queued them finds the worker waiting (await_tasks). Whose
-- transaction does not see what happens meanwhile tells in any case.
CREATE FUNCTION pgflow._wake_workers(flow_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT DISTINCT f.slug FROM unnest(flow_slugs) AS f (slug) ORDER BY f.slug
  LOOP
    PERFORM pg_advisory_xact_lock_shared(3, hashtext(queue.slug));
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      PERFORM pg_notify('pgflow_tasks', queue.slug);
    ELSIF EXISTS (SELECT FROM pgflow.waiting_workers AS w WHERE w.flow_slug = queue.slug) THEN
      PERFORM pg_notify('pgflow_tasks', queue.slug);
      -- Rows that another transaction is deleting are left to it; until it commits, others tell too.
      DELETE FROM pgflow.waiting_workers AS w
      WHERE w.ctid = ANY(
        ARRAY(SELECT k.ctid FROM pgflow.waiting_workers AS k WHERE k.flow_slug = queue.slug FOR UPDATE SKIP LOCKED)
      );
    END IF;
  END LOOP;
END
$$;
