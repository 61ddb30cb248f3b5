-- Hand those tasks of a batch that are judged `outcome`, 'released' or 'requeued', back to their queues, visible at once, and
-- their attempts with them. Who requeues is counted, and says why.
CREATE FUNCTION pgflow._hand_back_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], reasons text[], judgements text[], outcome text
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  is_counted CONSTANT int := CASE outcome WHEN 'requeued' THEN 1 ELSE 0 END;
  queued record;
BEGIN
  WITH handed_back AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'queued',
      started_at = NULL,
      attempts_count = greatest(t.attempts_count - 1, 0),
      last_worker_id = NULL,
      requeued_count = t.requeued_count + is_counted,
      last_requeued_at = CASE is_counted WHEN 1 THEN now() ELSE t.last_requeued_at END
    FROM unnest(run_ids, step_slugs, task_indexes, reasons, judgements)
      AS b (run_id, step_slug, task_index, reason, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.attempts_count, k.last_worker_id, k.started_at
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = outcome AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, k.attempts_count, k.last_worker_id, k.started_at,
      b.reason
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message
    )
    SELECT
      h.run_id, h.step_slug, h.task_index, h.attempts_count, _hand_back_tasks.outcome, h.last_worker_id, h.started_at,
      greatest(now(), h.started_at), h.reason
    FROM handed_back AS h
  )
  SELECT
    array_agg(h.flow_slug) AS flow_slugs,
    array_agg(h.message_id) AS message_ids,
    array_agg(0) AS delays
  INTO queued
  FROM handed_back AS h;
  PERFORM pgflow._delay_messages(queued.flow_slugs, queued.message_ids, queued.delays);
END
$$;
