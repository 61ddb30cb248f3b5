-- End what a batch gives up: tasks judged 'failed' fail, and their steps end as when_exhausted says; those judged 'recorded'
-- complete with their error; those judged 'over' end with their run. Returns the judgements as they are then.
CREATE FUNCTION pgflow._give_up_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  final text[] := judgements;
BEGIN
  -- First of all: what is recorded may fail a run, and cancels the attempts that go on in it then. These do not.
  IF 'failed' = ANY(judgements) THEN
    PERFORM pgflow._fail_exhausted_tasks(
      run_ids, step_slugs, task_indexes, error_messages, outcomes, evidence, judgements
    );
  END IF;

  IF 'recorded' = ANY(judgements) THEN
    final := pgflow._record_failed_tasks(
      run_ids, step_slugs, task_indexes, error_messages, outcomes, evidence, judgements
    );
  END IF;

  IF 'over' = ANY(final) THEN
    PERFORM pgflow._fail_late_tasks(run_ids, step_slugs, task_indexes, error_messages, final);
  END IF;

  IF 'failed' = ANY(judgements) THEN
    PERFORM pgflow._exhaust_steps(
      array_agg(b.run_id ORDER BY b.position),
      array_agg(b.step_slug ORDER BY b.position),
      array_agg(b.error_message ORDER BY b.position)
    )
    FROM unnest(run_ids, step_slugs, error_messages, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, judgement, position)
    WHERE b.judgement = 'failed';
  END IF;
  RETURN final;
END
$$;
