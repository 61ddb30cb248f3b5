-- Fail those tasks of a batch that are judged 'failed'. What becomes of their steps is another's business.
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
DECLARE
  ended record;
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
    WHERE b.judgement = 'failed' AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id, t.started_at,
      t.failed_at, t.error_message, b.outcome, b.evidence
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      f.run_id, f.step_slug, f.task_index, f.attempts_count, f.outcome, f.last_worker_id, f.started_at, f.failed_at,
      f.error_message, f.evidence
    FROM failed AS f
  )
  SELECT array_agg(f.flow_slug) AS flow_slugs, array_agg(f.message_id) AS message_ids INTO ended
  FROM failed AS f;

  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);
END
$$;
