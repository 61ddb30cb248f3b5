-- Lock a batch of tasks, and judge what a verdict on each of them meets, as _look_at_tasks says; the batch's second verdict on
-- a task is 'stale'. One judgement for each task, in the batch's order.
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
DECLARE
  judgements text[];
BEGIN
  PERFORM
  FROM pgflow.runs AS r
  WHERE r.run_id = ANY(run_ids)
  ORDER BY r.run_id
  FOR UPDATE;

  PERFORM pgflow._lock_steps(run_ids, step_slugs);

  -- In one statement with the locks of the tasks, in the order of their keys, so that each is looked up once. Runs and step
  -- states cannot change any more, and are looked at once for all tasks of a step. What is judged is as in _look_at_tasks.
  WITH step AS (
    SELECT
      b.run_id,
      b.step_slug,
      array_agg(b.task_index ORDER BY b.task_index, b.position) AS task_indexes,
      array_agg(b.position ORDER BY b.task_index, b.position) AS positions
    FROM unnest(run_ids, step_slugs, task_indexes)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, position)
    GROUP BY b.run_id, b.step_slug
    ORDER BY b.run_id, b.step_slug
  ),
  task AS MATERIALIZED (
    SELECT
      step.run_id,
      step.step_slug,
      b.task_index,
      b.position,
      CASE
        WHEN t.status IS NULL THEN 'unknown'
        WHEN t.attempts_count <> attempts[b.position]
          OR t.last_worker_id <> worker_ids[b.position]
          OR t.message_id <> message_ids[b.position] THEN 'stale'
        WHEN state.run_status <> 'started' OR state.step_status <> 'started' THEN 'over'
        WHEN t.status <> 'started' THEN 'stale'
        ELSE 'ready'
      END AS judgement
    FROM step
    CROSS JOIN LATERAL (
      SELECT
        (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = step.run_id) AS run_status,
        (
          SELECT s.status
          FROM pgflow.step_states AS s
          WHERE s.run_id = step.run_id AND s.step_slug = step.step_slug
        ) AS step_status
      OFFSET 0
    ) AS state
    CROSS JOIN LATERAL unnest(step.task_indexes, step.positions) AS b (task_index, position)
    LEFT JOIN LATERAL (
      SELECT t.status, t.attempts_count, t.last_worker_id, t.message_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = step.run_id AND t.step_slug = step.step_slug AND t.task_index = b.task_index
      FOR UPDATE
    ) AS t ON true
  )
  SELECT
    array_agg(CASE WHEN n.judgement = 'ready' AND n.mention > 1 THEN 'stale' ELSE n.judgement END ORDER BY n.position)
  INTO judgements
  FROM (
    SELECT
      task.position,
      task.judgement,
      row_number() OVER (
        PARTITION BY task.run_id, task.step_slug, task.task_index, task.judgement ORDER BY task.position
      ) AS mention
    FROM task
  ) AS n;
  RETURN coalesce(judgements, '{}');
END
$$;
