-- Send started tasks back to their queues for another attempt, visible after their own delay or their step's. What their
-- attempts were, `outcomes` and `evidence` say, is kept in the history.
CREATE FUNCTION pgflow._retry_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  retry_delays int[],
  outcomes text[],
  evidence jsonb[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queued record;
BEGIN
  WITH retried AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'queued', started_at = NULL, failed_at = NULL, error_message = b.error_message
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, retry_delays, outcomes, evidence)
      AS b (run_id, step_slug, task_index, error_message, retry_delay, outcome, evidence)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.started_at
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id,
      t.error_message, k.started_at, b.retry_delay, b.outcome, b.evidence
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      r.run_id, r.step_slug, r.task_index, r.attempts_count, r.outcome, r.last_worker_id, r.started_at,
      greatest(now(), r.started_at), r.error_message, r.evidence
    FROM retried AS r
  )
  SELECT
    array_agg(t.flow_slug) AS flow_slugs,
    array_agg(t.message_id) AS message_ids,
    array_agg(
      coalesce(
        t.retry_delay,
        pgflow.calculate_retry_delay(
          coalesce(
            (
              SELECT s.opt_base_delay
              FROM pgflow.steps AS s
              WHERE s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
            ),
            (SELECT f.opt_base_delay FROM pgflow.flows AS f WHERE f.flow_slug = t.flow_slug)
          ),
          t.attempts_count
        )
      )
    ) AS delays
  INTO queued
  FROM retried AS t;

  UPDATE pgflow.step_states AS s
  SET error_message = NULL
  FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid AND s.error_message IS NOT NULL;

  PERFORM pgflow._delay_messages(queued.flow_slugs, queued.message_ids, queued.delays);
END
$$;
