-- Complete those tasks of a batch that are judged 'recorded' with their error as the output. Returns the judgements as they
-- are then: a task whose output should have fed a map has failed its run, as any output does that is no array.
CREATE FUNCTION pgflow._record_failed_tasks(
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
  completed text[];
BEGIN
  completed := pgflow._complete_ready_tasks(
    run_ids,
    step_slugs,
    task_indexes,
    ARRAY(
      SELECT jsonb_build_object(
        '$error',
        jsonb_build_object(
          'message', b.error_message,
          'kind', b.outcome,
          'attempts', (
            SELECT t.attempts_count
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
          )
        )
      )
      FROM unnest(run_ids, step_slugs, task_indexes, error_messages, outcomes)
        WITH ORDINALITY AS b (run_id, step_slug, task_index, error_message, outcome, position)
      ORDER BY b.position
    ),
    false,
    array_replace(judgements, 'recorded', 'ready'),
    outcomes,
    error_messages,
    evidence
  );
  RETURN array_replace(completed, 'completed', 'recorded');
END
$$;
