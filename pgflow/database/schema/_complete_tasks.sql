-- complete_tasks, with the rights of whoever calls.
CREATE FUNCTION pgflow._complete_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  attempts int[],
  worker_ids uuid[],
  message_ids bigint[],
  evidence jsonb[]
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  judgements text[] := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
BEGIN
  judgements := pgflow._complete_ready_tasks(
    run_ids,
    step_slugs,
    task_indexes,
    outputs,
    attempts IS NULL AND worker_ids IS NULL AND message_ids IS NULL,
    judgements,
    NULL,
    NULL,
    evidence
  );

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

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
