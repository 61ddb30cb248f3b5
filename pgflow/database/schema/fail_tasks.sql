-- Ours: fail the attempts of a batch of tasks. A task with attempts left goes back to its queue, to be visible after
-- its step's delay, or after its own in `retry_delays`, in seconds; one without, or with a negative delay, fails, and its
-- step ends as when_exhausted says. With `attempts`, the failure of another attempt than the current one changes nothing.
-- Verdicts: 'retried', 'failed', 'stale', 'over', 'unknown' (see
-- _judge_tasks).
CREATE FUNCTION pgflow.fail_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  attempts int[] DEFAULT NULL,
  retry_delays int[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SET search_path TO ''
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
AS $$
DECLARE
  judgements text[] := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts);
BEGIN
  SELECT
    array_agg(
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        WHEN t.has_attempts_left AND coalesce(b.retry_delay, 0) >= 0 THEN 'retried'
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
      ) AS has_attempts_left
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
      array_agg(b.retry_delay)
    )
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, retry_delays, judgements)
      AS b (run_id, step_slug, task_index, error_message, retry_delay, judgement)
    WHERE b.judgement = 'retried';
  END IF;

  IF judgements && ARRAY['failed', 'over'] THEN
    -- Tasks that are still started in a run that has failed end with it.
    UPDATE pgflow.step_tasks AS t
    SET status = 'failed', failed_at = greatest(now(), t.queued_at, t.started_at), error_message = b.error_message
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, attempts, judgements)
      AS b (run_id, step_slug, task_index, error_message, attempt, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE t.ctid = k.ctid
      AND t.status || '' = 'started'
      AND t.attempts_count = coalesce(b.attempt, t.attempts_count)
      AND (
        b.judgement = 'failed'
        OR (
          b.judgement = 'over'
          AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id) = 'failed'
        )
      );

    PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
    FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
    CROSS JOIN LATERAL (
      SELECT t.flow_slug, t.message_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t
    WHERE b.judgement IN ('failed', 'over');
  END IF;

  IF 'failed' = ANY(judgements) THEN
    PERFORM pgflow._exhaust_steps(
      array_agg(b.run_id ORDER BY b.position),
      array_agg(b.step_slug ORDER BY b.position),
      array_agg(b.error_message ORDER BY b.position)
    )
    FROM unnest(run_ids, step_slugs, error_messages, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, judgement, position)
    WHERE b.judgement = 'failed';
  END IF;

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
