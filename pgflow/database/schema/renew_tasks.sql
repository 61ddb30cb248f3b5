-- Ours: whether a worker still holds tasks that it is busy with: 'held', 'over' (the task's run or step has ended: nothing
-- that comes of it counts) or 'lost' (anything else). Messages of those that are held stay invisible for at least `visible_seconds`
-- from now, where that is not NULL.
--
-- It is called every second, and locks no run, step or task. The messages that are to stay invisible are locked before it is
-- looked who holds the tasks: whoever hands a task back changes the task first and then its message, so either that is seen
-- here, or the message becomes visible after this. Nothing is waited for; a message that somebody else has locked is left out.
CREATE FUNCTION pgflow.renew_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  attempts int[],
  worker_ids uuid[],
  message_ids bigint[],
  visible_seconds int[]
)
RETURNS TABLE (ordinal int, state text)
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
AS $$
DECLARE
  locked record;
  judgements text[];
BEGIN
  PERFORM pgflow._check_lengths(
    'renew_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'attempts', 'worker_ids', 'message_ids', 'visible_seconds'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids)),
      coalesce(cardinality(visible_seconds), cardinality(run_ids))
    ]
  );

  SELECT array_agg(m.flow_slug) AS flow_slugs, array_agg(m.position_locked) AS positions
  INTO locked
  FROM (
    SELECT
      array_agg(t.flow_slug) AS flow_slugs,
      array_agg(b.message_id) AS message_ids,
      array_agg(b.position::int) AS positions
    FROM unnest(run_ids, step_slugs, task_indexes, message_ids, visible_seconds)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, message_id, seconds, position)
    CROSS JOIN LATERAL (
      SELECT t.flow_slug
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t
    WHERE b.seconds IS NOT NULL
  ) AS wanted
  CROSS JOIN LATERAL pgflow._lock_messages(wanted.flow_slugs, wanted.message_ids, wanted.positions) AS m;

  judgements := pgflow._look_at_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);

  IF locked.positions IS NOT NULL THEN
    PERFORM pgflow._keep_messages_invisible(
      array_agg(l.flow_slug), array_agg(message_ids[l.position]), array_agg(visible_seconds[l.position])
    )
    FROM unnest(locked.flow_slugs, locked.positions) AS l (flow_slug, position)
    WHERE judgements[l.position] = 'ready';
  END IF;

  RETURN QUERY
  SELECT j.position::int, CASE j.judgement WHEN 'ready' THEN 'held' WHEN 'over' THEN 'over' ELSE 'lost' END
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
