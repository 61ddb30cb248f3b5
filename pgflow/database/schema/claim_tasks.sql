-- Ours: lock messages of several flows' queues and start their tasks, in one round trip; at most p_quantity tasks in all.
-- p_worker_ids[i] is the worker's row for p_flow_slugs[i]. `retry_delay` is in how many seconds the task is tried again if
-- this attempt fails; NULL for the last.
CREATE FUNCTION pgflow.claim_tasks(p_flow_slugs text[], p_worker_ids uuid[], p_quantity int)
RETURNS TABLE (
  flow_slug text, run_id uuid, step_slug text, task_index int, attempt int, msg_id bigint, kind text, input text,
  timeout int, max_attempts int, retry_delay int
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
SET enable_bitmapscan TO off
AS $$
DECLARE
  flow record;
  locked_ids bigint[];
  started bigint;
  quantity int := p_quantity;
BEGIN
  PERFORM pgflow._check_lengths(
    'claim_tasks', ARRAY['p_flow_slugs', 'p_worker_ids'], ARRAY[cardinality(p_flow_slugs), cardinality(p_worker_ids)]
  );
  IF array_position(p_worker_ids, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'claim_tasks(): p_worker_ids holds NULL, but whose tasks these are must be known';
  END IF;
  -- NULL would be the whole queue.
  IF p_quantity IS NULL OR p_quantity < 0 THEN
    RAISE EXCEPTION 'claim_tasks(): p_quantity is %, but must be 0 or more', coalesce(p_quantity::text, 'NULL');
  END IF;

  -- In random order, so that a flow with a long queue does not keep the others from being served.
  FOR flow IN
    SELECT f.slug, f.worker_id
    FROM unnest(p_flow_slugs, p_worker_ids) AS f (slug, worker_id)
    -- A worker may claim tasks, not read whatever other queues there are.
    WHERE EXISTS (SELECT FROM pgflow.flows AS known WHERE known.flow_slug = f.slug)
    ORDER BY random()
  LOOP
    EXIT WHEN quantity <= 0;
    locked_ids := pgflow._lock_visible_messages(flow.slug, quantity);
    CONTINUE WHEN locked_ids IS NULL;

    RETURN QUERY
    SELECT
      flow.slug,
      t.run_id,
      t.step_slug,
      t.task_index,
      t.attempt,
      t.msg_id,
      t.kind,
      t.input::text,
      t.timeout,
      t.max_attempts,
      t.retry_delay
    FROM pgflow._start_tasks(flow.slug, locked_ids, flow.worker_id, 1) AS t;
    GET DIAGNOSTICS started = ROW_COUNT;
    quantity := quantity - started::int;

    IF started < cardinality(locked_ids) THEN
      PERFORM pgflow._set_aside_messages(flow.slug, locked_ids);
    END IF;
  END LOOP;
END
$$;
