-- Ours: complete a batch of tasks, and whatever follows from that, in a number of statements that does not grow with
-- the runs and steps in it. With `attempts`, `worker_ids` and `message_ids`, as the claim gave them, a result of whoever does
-- not hold the task any more changes nothing.
-- `evidence` is for the history: what was seen of the attempts.
-- Verdicts: 'completed', 'failed' (type violation), 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.complete_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  attempts int[] DEFAULT NULL,
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL,
  evidence jsonb[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._check_lengths(
    'complete_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'outputs', 'attempts', 'worker_ids', 'message_ids', 'evidence'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      cardinality(outputs),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids)),
      coalesce(cardinality(evidence), cardinality(run_ids))
    ]
  );
  RETURN QUERY
  SELECT t.ordinal, t.verdict
  FROM pgflow._complete_tasks(
    run_ids, step_slugs, task_indexes, outputs, attempts, worker_ids, message_ids, evidence
  ) AS t;
END
$$;
