-- Ours: fail the attempts of a batch of tasks. A task with attempts left goes back to its queue, to be visible after
-- its step's delay, or after its own in `retry_delays`, in seconds. One without, or with a negative delay, completes with
-- its error where its step records failures; else it fails, and its step ends as when_exhausted says.
--
-- `outcomes` says in a word how the attempts ended (see task_attempts; 'failed' unless given), `evidence` what was seen of it.
-- With `attempts`, `worker_ids` and `message_ids`, as the claim gave them, a failure reported by whoever does not hold the
-- task any more changes nothing.
-- Verdicts: 'retried', 'recorded', 'failed', 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.fail_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  attempts int[] DEFAULT NULL,
  retry_delays int[] DEFAULT NULL,
  outcomes text[] DEFAULT NULL,
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL,
  evidence jsonb[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE sql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT pgflow._check_lengths(
    'fail_tasks',
    ARRAY[
      'run_ids', 'step_slugs', 'task_indexes', 'error_messages', 'attempts', 'retry_delays', 'outcomes', 'worker_ids',
      'message_ids', 'evidence'
    ],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      cardinality(error_messages),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(retry_delays), cardinality(run_ids)),
      coalesce(cardinality(outcomes), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids)),
      coalesce(cardinality(evidence), cardinality(run_ids))
    ]
  );
  SELECT t.ordinal, t.verdict
  FROM pgflow._fail_tasks(
    run_ids, step_slugs, task_indexes, error_messages, attempts, retry_delays, outcomes, worker_ids, message_ids, evidence
  ) AS t
$$;
