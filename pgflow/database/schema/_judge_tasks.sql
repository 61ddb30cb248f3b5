-- Lock a batch of tasks, and judge what a verdict on each of them meets: 'ready' (started, in this attempt), 'stale'
-- (not started, held otherwise, or the batch's second verdict on it), 'over' (its run or step has ended) or 'unknown'. One
-- judgement for each task, in the batch's order.
--
-- Attempt, worker and message say how whoever reports holds the task, as far as they are given: a late result of an earlier
-- attempt, of a worker that lost the task, or from before the run was retried, is 'stale'.
--
-- Runs, then step states, then tasks are locked, each by key, so that batches which overlap wait for each other and
-- never in a circle; what is read afterwards cannot change any more.
CREATE FUNCTION pgflow._judge_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], attempts int[], worker_ids uuid[], message_ids bigint[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM
  FROM pgflow.runs AS r
  WHERE r.run_id = ANY(run_ids)
  ORDER BY r.run_id
  FOR UPDATE;

  PERFORM pgflow._lock_steps(run_ids, step_slugs);

  PERFORM
  FROM (
    SELECT b.run_id, b.step_slug, b.task_index
    FROM unnest(run_ids, step_slugs, task_indexes) AS b (run_id, step_slug, task_index)
    ORDER BY b.run_id, b.step_slug, b.task_index
  ) AS b
  CROSS JOIN LATERAL (
    SELECT
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    FOR UPDATE
  ) AS locked;

  RETURN (
    WITH judged AS (
      SELECT
        b.*,
        CASE
          WHEN t.run_id IS NULL THEN 'unknown'
          WHEN t.attempts_count <> b.attempt OR t.last_worker_id <> b.worker_id OR t.message_id <> b.message_id THEN 'stale'
          WHEN t.run_status <> 'started' OR t.step_status <> 'started' THEN 'over'
          WHEN t.status <> 'started' THEN 'stale'
          ELSE 'ready'
        END AS judgement
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
    ),
    numbered AS (
      SELECT
        j.position,
        j.judgement,
        row_number() OVER (
          PARTITION BY j.run_id, j.step_slug, j.task_index, j.judgement ORDER BY j.position
        ) AS mention
      FROM judged AS j
    )
    SELECT array_agg(
      CASE WHEN n.judgement = 'ready' AND n.mention > 1 THEN 'stale' ELSE n.judgement END
      ORDER BY n.position
    )
    FROM numbered AS n
  );
END
$$;
