-- Fail those tasks of a batch that are judged 'failed', and end their steps as when_exhausted says. Tasks judged 'over' that
-- are still started in a run that has failed end with it.
CREATE FUNCTION pgflow._fail_exhausted_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  WITH failed AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'failed', failed_at = greatest(now(), t.queued_at, t.started_at), error_message = b.error_message
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, outcomes, evidence, judgements)
      AS b (run_id, step_slug, task_index, error_message, outcome, evidence, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE t.ctid = k.ctid
      AND t.status || '' = 'started'
      AND (
        b.judgement = 'failed'
        OR (
          b.judgement = 'over'
          AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id) = 'failed'
        )
      )
    RETURNING
      t.run_id, t.step_slug, t.task_index, t.attempts_count, t.last_worker_id, t.started_at, t.failed_at,
      t.error_message, b.outcome, b.evidence, b.judgement
  )
  INSERT INTO pgflow.task_attempts (
    run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
  )
  SELECT
    f.run_id, f.step_slug, f.task_index, f.attempts_count, f.outcome, f.last_worker_id, f.started_at, f.failed_at,
    f.error_message, f.evidence
  FROM failed AS f
  WHERE f.judgement = 'failed';  -- the others' attempts ended with their run

  PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
  CROSS JOIN LATERAL (
    SELECT t.flow_slug, t.message_id
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t
  WHERE b.judgement IN ('failed', 'over');

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
END
$$;
