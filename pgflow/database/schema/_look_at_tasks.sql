-- What a verdict on each task of a batch would meet, in the batch's order: 'ready' (started, in this attempt), 'stale' (not
-- started, or held otherwise), 'over' (its run or step has ended) or 'unknown'. Who has not locked the tasks learns what was
-- so at the statement's start.
--
-- Attempt, worker and message say how whoever reports holds the task, as far as they are given: a late result of an earlier
-- attempt, of a worker that lost the task, or from before the run was retried, is 'stale'.
CREATE FUNCTION pgflow._look_at_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], attempts int[], worker_ids uuid[], message_ids bigint[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT
      CASE
        WHEN t.run_id IS NULL THEN 'unknown'
        WHEN t.attempts_count <> b.attempt OR t.last_worker_id <> b.worker_id OR t.message_id <> b.message_id THEN 'stale'
        WHEN t.run_status <> 'started' OR t.step_status <> 'started' THEN 'over'
        WHEN t.status <> 'started' THEN 'stale'
        ELSE 'ready'
      END
    FROM unnest(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, attempt, worker_id, message_id, position)
    LEFT JOIN LATERAL (
      SELECT
        t.run_id,
        t.status,
        t.attempts_count,
        t.last_worker_id,
        t.message_id,
        (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = t.run_id) AS run_status,
        (
          SELECT s.status FROM pgflow.step_states AS s WHERE s.run_id = t.run_id AND s.step_slug = t.step_slug
        ) AS step_status
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );
END
$$;
