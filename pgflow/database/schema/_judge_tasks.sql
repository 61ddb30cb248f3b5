-- Lock a batch of tasks, and judge what a verdict on each of them meets: 'ready' (started, in this attempt), 'stale'
-- (not started, in another attempt, or the batch's second verdict on it), 'over' (its run or step has ended) or
-- 'unknown'. Without attempts any attempt will do. One judgement for each task, in the batch's order.
--
-- Runs, then step states, then tasks are locked, each by key, so that batches which overlap wait for each other and
-- never in a circle; what is read afterwards cannot change any more.
CREATE FUNCTION pgflow._judge_tasks(run_ids uuid[], step_slugs text[], task_indexes int[], attempts int[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  PERFORM
  FROM pgflow.runs AS r
  WHERE r.run_id = ANY(run_ids)
  ORDER BY r.run_id
  FOR UPDATE;

  PERFORM
  FROM (SELECT DISTINCT b.run_id, b.step_slug FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)) AS b
  JOIN pgflow.step_states AS s ON s.run_id = b.run_id AND s.step_slug = b.step_slug
  ORDER BY s.run_id, s.step_slug
  FOR UPDATE OF s;

  PERFORM
  FROM unnest(run_ids, step_slugs, task_indexes) AS b (run_id, step_slug, task_index)
  JOIN pgflow.step_tasks AS t
    ON t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
  ORDER BY t.run_id, t.step_slug, t.task_index
  FOR UPDATE OF t;

  RETURN (
    WITH judged AS (
      SELECT
        b.*,
        CASE
          WHEN t.run_id IS NULL THEN 'unknown'
          WHEN r.status <> 'started' OR s.status <> 'started' THEN 'over'
          WHEN t.status <> 'started' OR t.attempts_count <> coalesce(b.attempt, t.attempts_count) THEN 'stale'
          ELSE 'ready'
        END AS judgement
      FROM unnest(run_ids, step_slugs, task_indexes, attempts)
        WITH ORDINALITY AS b (run_id, step_slug, task_index, attempt, position)
      LEFT JOIN pgflow.step_tasks AS t
        ON t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      LEFT JOIN pgflow.step_states AS s ON s.run_id = b.run_id AND s.step_slug = b.step_slug
      LEFT JOIN pgflow.runs AS r ON r.run_id = b.run_id
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
