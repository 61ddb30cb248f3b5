-- What a verdict on each task of a batch would meet: 'ready' (started, in this attempt), 'stale' (not started, another
-- attempt, or the batch's second verdict on it), 'over' (its run or step has ended) or 'unknown'. Without attempts any
-- attempt will do. Call it under _lock_steps.
CREATE FUNCTION pgflow._judge_tasks(run_ids uuid[], step_slugs text[], task_indexes int[], attempts int[])
RETURNS TABLE (ordinal int, judgement text)
LANGUAGE sql
STABLE
SET search_path TO ''
AS $$
  SELECT
    b.position::int,
    CASE
      WHEN t.run_id IS NULL THEN 'unknown'
      WHEN r.status <> 'started' OR s.status <> 'started' THEN 'over'
      WHEN t.status <> 'started' OR t.attempts_count <> coalesce(b.attempt, t.attempts_count) THEN 'stale'
      WHEN row_number() OVER (PARTITION BY b.run_id, b.step_slug, b.task_index ORDER BY b.position) > 1 THEN 'stale'
      ELSE 'ready'
    END
  FROM unnest(run_ids, step_slugs, task_indexes, attempts)
    WITH ORDINALITY AS b (run_id, step_slug, task_index, attempt, position)
  LEFT JOIN pgflow.step_tasks AS t
    ON t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
  LEFT JOIN pgflow.step_states AS s ON s.run_id = b.run_id AND s.step_slug = b.step_slug
  LEFT JOIN pgflow.runs AS r ON r.run_id = b.run_id
$$;
