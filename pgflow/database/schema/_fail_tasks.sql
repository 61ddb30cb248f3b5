-- fail_tasks, with the rights of whoever calls.
CREATE FUNCTION pgflow._fail_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  attempts int[],
  retry_delays int[],
  outcomes text[],
  worker_ids uuid[],
  message_ids bigint[],
  evidence jsonb[]
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
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
  judgements text[] := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  kinds CONSTANT text[] := ARRAY(
    SELECT coalesce(b.outcome, 'failed')
    FROM unnest(run_ids, outcomes) WITH ORDINALITY AS b (run_id, outcome, position)
    ORDER BY b.position
  );
BEGIN
  SELECT
    array_agg(
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        -- Of a task that has stalled for good the message is archived: retry_run sends another.
        WHEN t.has_attempts_left AND coalesce(b.retry_delay, 0) >= 0
          THEN CASE WHEN t.has_stalled THEN 'stale' ELSE 'retried' END
        WHEN t.is_recorded THEN 'recorded'
        ELSE 'failed'
      END
      ORDER BY b.position
    )
  INTO judgements
  FROM unnest(run_ids, step_slugs, task_indexes, retry_delays, judgements)
    WITH ORDINALITY AS b (run_id, step_slug, task_index, retry_delay, judgement, position)
  LEFT JOIN LATERAL (
    SELECT
      t.attempts_count < coalesce(
        (
          SELECT s.opt_max_attempts
          FROM pgflow.steps AS s
          WHERE s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
        ),
        (SELECT f.opt_max_attempts FROM pgflow.flows AS f WHERE f.flow_slug = t.flow_slug)
      ) AS has_attempts_left,
      t.permanently_stalled_at IS NOT NULL AS has_stalled,
      EXISTS (
        SELECT FROM pgflow.recording_steps AS r WHERE r.flow_slug = t.flow_slug AND r.step_slug = t.step_slug
      ) AS is_recorded
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t ON true;

  IF 'retried' = ANY(judgements) THEN
    PERFORM pgflow._retry_tasks(
      array_agg(b.run_id),
      array_agg(b.step_slug),
      array_agg(b.task_index),
      array_agg(b.error_message),
      array_agg(b.retry_delay),
      array_agg(b.outcome),
      array_agg(b.evidence)
    )
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, retry_delays, kinds, evidence, judgements)
      AS b (run_id, step_slug, task_index, error_message, retry_delay, outcome, evidence, judgement)
    WHERE b.judgement = 'retried';
  END IF;

  IF judgements && ARRAY['recorded', 'failed', 'over'] THEN
    judgements := pgflow._give_up_tasks(
      run_ids, step_slugs, task_indexes, error_messages, kinds, evidence, judgements
    );
  END IF;

  IF 'over' = ANY(judgements) AND 'cancelled' = ANY(kinds) THEN
    PERFORM pgflow._tell_cancelled_attempts(
      run_ids, step_slugs, task_indexes, error_messages, kinds, evidence, judgements
    );
  END IF;

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
