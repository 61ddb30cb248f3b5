-- Attempts that were killed because their tasks' runs or steps had ended, those of a batch that are judged 'over', have been
-- recorded already, by whoever ended those: now it is known what they had been doing.
CREATE FUNCTION pgflow._tell_cancelled_attempts(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.task_attempts AS a
  SET error_message = b.error_message, evidence = b.evidence
  FROM unnest(
    run_ids, step_slugs, task_indexes, error_messages, outcomes, _tell_cancelled_attempts.evidence, judgements
  ) AS b (run_id, step_slug, task_index, error_message, outcome, evidence, judgement)
  CROSS JOIN LATERAL (
    SELECT k.ctid, k.outcome, k.error_message
    FROM pgflow.task_attempts AS k
    WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
    ORDER BY k.attempt_id DESC
    LIMIT 1
  ) AS k
  WHERE a.ctid = k.ctid
    AND b.judgement = 'over'
    AND b.outcome = 'cancelled'
    AND k.outcome = 'cancelled'
    AND k.error_message IS NULL;
END
$$;
