-- Ours: hand back what workers held that are gone, for the reasons given, visible at once and without an attempt spent: the
-- task is not to blame. But of a task that was handed back three times before, no fourth worker shall die: it completes with
-- its error where its step records failures; else it fails, and its step ends as when_exhausted says.
-- Verdicts: 'requeued', 'recorded', 'failed', 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.requeue_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  reasons text[],
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
  outcomes CONSTANT text[] := array_fill('crashed'::text, ARRAY[coalesce(cardinality(run_ids), 0)]);
  errors text[];
BEGIN
  PERFORM pgflow._check_lengths(
    'requeue_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'reasons', 'attempts', 'worker_ids', 'message_ids'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      cardinality(reasons),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids))
    ]
  );

  judgements := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  judgements := ARRAY(
    SELECT
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        -- Of a task that has stalled for good the message is archived: retry_run sends another.
        WHEN t.has_stalled THEN 'stale'
        WHEN t.requeued_count < 3 THEN 'requeued'
        WHEN t.is_recorded THEN 'recorded'
        ELSE 'failed'
      END
    FROM unnest(run_ids, step_slugs, task_indexes, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, judgement, position)
    LEFT JOIN LATERAL (
      SELECT
        t.requeued_count,
        t.permanently_stalled_at IS NOT NULL AS has_stalled,
        EXISTS (
          SELECT FROM pgflow.recording_steps AS r WHERE r.flow_slug = t.flow_slug AND r.step_slug = t.step_slug
        ) AS is_recorded
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );

  IF 'requeued' = ANY(judgements) THEN
    PERFORM pgflow._hand_back_tasks(run_ids, step_slugs, task_indexes, reasons, judgements, 'requeued');
  END IF;

  IF judgements && ARRAY['recorded', 'failed', 'over'] THEN
    errors := pgflow._tell_hand_backs(run_ids, step_slugs, task_indexes, reasons, judgements);
    -- Tasks of a run that has failed end with it: else they would be found with a dead worker again and again.
    judgements := pgflow._give_up_tasks(run_ids, step_slugs, task_indexes, errors, outcomes, NULL, judgements);
  END IF;

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
