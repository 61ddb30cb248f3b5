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

  judgements := pgflow._look_at_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  RETURN ARRAY(
    SELECT CASE WHEN n.judgement = 'ready' AND n.mention > 1 THEN 'stale' ELSE n.judgement END
    FROM (
      SELECT
        b.position,
        b.judgement,
        row_number() OVER (
          PARTITION BY b.run_id, b.step_slug, b.task_index, b.judgement ORDER BY b.position
        ) AS mention
      FROM unnest(run_ids, step_slugs, task_indexes, judgements)
        WITH ORDINALITY AS b (run_id, step_slug, task_index, judgement, position)
    ) AS n
    ORDER BY n.position
  );
END
$$;
