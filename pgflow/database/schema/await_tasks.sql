-- Ours: a worker that has found no tasks says that it will wait for a notification on the channel pgflow_tasks, whose
-- payload is the flow's slug. p_worker_ids[i] is its row for p_flow_slugs[i]. It has to look once more after this, and
-- again when it was told.
--
-- Returns whether it may wait (not while somebody is queueing tasks, see _wake_workers), and in how many seconds the next
-- delayed task becomes visible, NULL if none is known. Of the messages that are invisible most belong to tasks that run;
-- so that this costs the same whatever their number, only the next hundred are looked at.
CREATE FUNCTION pgflow.await_tasks(p_flow_slugs text[], p_worker_ids uuid[])
RETURNS TABLE (is_waiting boolean, next_visible_in double precision)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
-- The row of a worker that a transaction has told is gone when that ends; a worker does not wait for that.
SET lock_timeout TO '100ms'
AS $$
DECLARE
  queue record;
  visible_in double precision;
BEGIN
  FOR queue IN
    SELECT f.flow_slug AS slug FROM pgflow.flows AS f WHERE f.flow_slug = ANY(p_flow_slugs) ORDER BY f.flow_slug
  LOOP
    EXECUTE format(
      $query$
        SELECT extract(epoch FROM min(m.vt) FILTER (WHERE m.is_delayed OR m.position = 100) - clock_timestamp())
        FROM (
          SELECT
            q.vt,
            row_number() OVER (ORDER BY q.vt) AS position,
            EXISTS (
              SELECT FROM pgflow.step_tasks AS t
              WHERE t.message_id = q.msg_id AND t.flow_slug = $1 AND t.status = 'queued'
            ) AS is_delayed
          FROM (
            SELECT q.msg_id, q.vt FROM pgmq.%I AS q WHERE q.vt > clock_timestamp() ORDER BY q.vt LIMIT 100
          ) AS q
        ) AS m
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) INTO visible_in USING queue.slug;
    next_visible_in := least(next_visible_in, visible_in);
  END LOOP;

  INSERT INTO pgflow.waiting_workers (worker_id, flow_slug)
  SELECT w.worker_id, w.slug
  FROM unnest(p_flow_slugs, p_worker_ids) AS w (slug, worker_id)
  ORDER BY w.worker_id
  ON CONFLICT DO NOTHING;

  -- Last, and without waiting: whoever queues tasks waits for it, and may hold what the statements above wait for.
  SELECT bool_and(pg_try_advisory_xact_lock(3, hashtext(f.slug))) INTO is_waiting
  FROM unnest(p_flow_slugs) AS f (slug);
  RETURN NEXT;
END
$$;
