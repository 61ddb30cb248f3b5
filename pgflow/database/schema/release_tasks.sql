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
AS $$
DECLARE
  judgements text[] := pgflow._judge_tasks(
    run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids
  );
  queued record;
BEGIN
  -- Of a task that has stalled for good the message is archived: retry_run sends another.
  judgements := ARRAY(
    SELECT CASE WHEN b.judgement = 'ready' AND t.has_stalled THEN 'stale' ELSE b.judgement END
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

  WITH released AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'queued',
      started_at = NULL,
      attempts_count = t.attempts_count - 1,
      last_worker_id = NULL
    FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.attempts_count, k.last_worker_id, k.started_at
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = 'ready' AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, k.attempts_count, k.last_worker_id, k.started_at
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at
    )
    SELECT
      r.run_id, r.step_slug, r.task_index, r.attempts_count, 'released', r.last_worker_id, r.started_at,
      greatest(now(), r.started_at)
    FROM released AS r
  )
  SELECT
    array_agg(released.flow_slug) AS flow_slugs,
    array_agg(released.message_id) AS message_ids,
    array_agg(0) AS delays
  INTO queued
  FROM released;
  PERFORM pgflow._delay_messages(queued.flow_slugs, queued.message_ids, queued.delays);

  RETURN QUERY
  SELECT j.position::int, CASE j.judgement WHEN 'ready' THEN 'released' ELSE j.judgement END
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
