-- Why each of those tasks of a batch that are judged 'recorded' or 'failed' is given up: after a sentence that stands on
-- its own, a line for each time it was handed back since it was queued for the first time or by retry_run, and one for this
-- time. Of the others it is the reason alone. One text for each task, in the batch's order.
CREATE FUNCTION pgflow._tell_hand_backs(
  run_ids uuid[], step_slugs text[], task_indexes int[], reasons text[], judgements text[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT
      CASE
        WHEN b.judgement IN ('recorded', 'failed') THEN (
          SELECT
            format('Task was given up: it was handed back %s times and its worker died again', t.requeued_count)
            || string_agg(
              format(
                E'\n%s UTC, %s: %s',
                to_char(e.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
                coalesce(
                  (
                    SELECT format('worker %s (%s)', left(w.function_name, 100), w.worker_id)
                    FROM pgflow.workers AS w
                    WHERE w.worker_id = e.worker_id
                  ),
                  'worker ' || e.worker_id,
                  'a worker of which nothing is known'
                ),
                left(split_part(coalesce(e.reason, 'it was silent for longer than the task may take'), E'\n', 1), 300)
              ),
              '' ORDER BY e.attempt_id NULLS LAST
            )
          FROM (
            (
              SELECT a.attempt_id, a.ended_at, a.worker_id, a.error_message AS reason
              FROM pgflow.task_attempts AS a
              WHERE a.run_id = b.run_id
                AND a.step_slug = b.step_slug
                AND a.task_index = b.task_index
                AND a.outcome = 'requeued'
                AND a.ended_at >= t.queued_at
              ORDER BY a.attempt_id DESC
              LIMIT t.requeued_count
            )
            UNION ALL
            SELECT NULL, greatest(now(), t.started_at), t.last_worker_id, b.reason
          ) AS e
        )
        ELSE b.reason
      END
    FROM unnest(run_ids, step_slugs, task_indexes, reasons, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, reason, judgement, position)
    LEFT JOIN LATERAL (
      SELECT t.requeued_count, t.queued_at, t.started_at, t.last_worker_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );
END
$$;
