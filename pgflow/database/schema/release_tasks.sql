-- Ours: hand started tasks back to their queues, visible at once, without an attempt spent.
-- Verdicts: 'released', 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.release_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  attempts int[],
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
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
  judgements text[];
BEGIN
  PERFORM pgflow._check_lengths(
    'release_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'attempts', 'worker_ids', 'message_ids'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids))
    ]
  );

  judgements := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  -- Of a task that has stalled for good the message is archived: retry_run sends another.
  judgements := ARRAY(
    SELECT
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        WHEN t.has_stalled THEN 'stale'
        ELSE 'released'
      END
    FROM unnest(run_ids, step_slugs, task_indexes, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, judgement, position)
    LEFT JOIN LATERAL (
      SELECT t.permanently_stalled_at IS NOT NULL AS has_stalled
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );

  PERFORM pgflow._hand_back_tasks(run_ids, step_slugs, task_indexes, NULL, judgements, 'released');

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
