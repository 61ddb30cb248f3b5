-- What a verdict on each task of a batch meets, as in pgflow._judge_tasks, how many attempts it has, and how often it was
-- requeued. Nothing changes any more where runs and tasks are locked.
SELECT
  CASE WHEN b.judgement = 'ready' AND b.mention > 1 THEN 'stale' ELSE b.judgement END AS judgement,
  b.max_attempts,
  b.requeued_count,
  b.has_stalled
FROM (
  SELECT
    b.position,
    b.judgement,
    b.max_attempts,
    b.requeued_count,
    b.has_stalled,
    row_number() OVER (
      PARTITION BY b.run_id, b.step_slug, b.task_index, b.judgement ORDER BY b.position
    ) AS mention
  FROM (
    SELECT
      b.*,
      coalesce(definition.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
      t.requeued_count,
      t.permanently_stalled_at IS NOT NULL AS has_stalled,
      CASE
        WHEN t.run_id IS NULL THEN 'unknown'
        WHEN t.attempts_count <> b.attempt OR t.last_worker_id <> b.worker_id OR t.message_id <> b.message_id
          THEN 'stale'
        WHEN r.status <> 'started' OR s.status <> 'started' THEN 'over'
        WHEN t.status <> 'started' THEN 'stale'
        ELSE 'ready'
      END AS judgement
    FROM unnest(
      %(run_ids)s::uuid[],
      %(step_slugs)s::text[],
      %(task_indexes)s::int[],
      %(attempts)s::int[],
      %(worker_ids)s::uuid[],
      %(message_ids)s::bigint[]
    ) WITH ORDINALITY AS b (run_id, step_slug, task_index, attempt, worker_id, message_id, position)
    LEFT JOIN pgflow.step_tasks AS t
      ON t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    LEFT JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = t.step_slug
    LEFT JOIN pgflow.runs AS r ON r.run_id = t.run_id
    LEFT JOIN pgflow.steps AS definition ON definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
    LEFT JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
  ) AS b
) AS b
ORDER BY b.position
