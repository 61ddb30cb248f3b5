-- Ours: complete a batch of tasks, and whatever follows from that, in a number of statements that does not grow with
-- the runs and steps in it. With `attempts`, a result of another attempt than the current one changes nothing.
-- Verdicts: 'completed', 'failed' (type violation), 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.complete_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], outputs jsonb[], attempts int[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SET search_path TO ''
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
AS $$
DECLARE
  judgements text[] := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts);
  done record;
BEGIN
  judgements := pgflow._fail_type_violations(
    run_ids, step_slugs, task_indexes, outputs, attempts IS NULL, judgements
  );

  WITH completed AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'completed', completed_at = greatest(now(), t.started_at), output = b.output
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, judgements)
      AS b (run_id, step_slug, task_index, output, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = 'ready' AND t.ctid = k.ctid
    RETURNING t.flow_slug, t.run_id, t.step_slug, t.message_id
  ),
  step AS (
    SELECT c.run_id, c.step_slug, count(*)::int AS task_count FROM completed AS c GROUP BY c.run_id, c.step_slug
  )
  SELECT s.run_ids, s.step_slugs, s.task_counts, m.flow_slugs, m.message_ids
  INTO done
  FROM (
    SELECT
      array_agg(step.run_id) AS run_ids,
      array_agg(step.step_slug) AS step_slugs,
      array_agg(step.task_count) AS task_counts
    FROM step
  ) AS s
  CROSS JOIN (
    SELECT array_agg(c.flow_slug) AS flow_slugs, array_agg(c.message_id) AS message_ids FROM completed AS c
  ) AS m;

  IF done.run_ids IS NOT NULL THEN
    PERFORM pgflow._complete_steps(done.run_ids, done.step_slugs, done.task_counts);
    PERFORM pgflow._archive_messages(done.flow_slugs, done.message_ids);
  END IF;

  IF 'over' = ANY(judgements) THEN
    PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
    FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
    CROSS JOIN LATERAL (
      SELECT t.flow_slug, t.message_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t
    WHERE b.judgement = 'over'
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id) <> 'failed';
  END IF;

  PERFORM pgflow._advance_runs(run_ids);

  RETURN QUERY
  SELECT j.position::int, CASE j.judgement WHEN 'ready' THEN 'completed' ELSE j.judgement END
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
