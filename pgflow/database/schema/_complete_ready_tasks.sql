-- Complete those tasks of a batch that are judged 'ready', their steps and runs with them, and bring the runs as far as they
-- come; but fail those whose output cannot feed the map that waits for it. Returns the judgements as they are then: 'completed' or 'failed' instead of 'ready'.
-- `outcomes`, `error_messages` and `evidence` are for the history, and NULL of what a task that did its work needs not.
CREATE FUNCTION pgflow._complete_ready_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  any_attempt boolean,
  judgements text[],
  outcomes text[],
  error_messages text[],
  evidence jsonb[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  violation record;
  done record;
  still_going uuid[];
BEGIN
  SELECT v.judgements, v.map_slugs INTO violation
  FROM pgflow._judge_outputs(run_ids, step_slugs, task_indexes, outputs, any_attempt, judgements) AS v;

  WITH completed AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'completed',
      completed_at = greatest(now(), t.started_at),
      output = b.output,
      error_message = coalesce(b.error_message, t.error_message)
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, violation.judgements, outcomes, error_messages, evidence)
      AS b (run_id, step_slug, task_index, output, judgement, outcome, error_message, evidence)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = 'ready' AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id, t.started_at,
      t.completed_at, coalesce(b.outcome, 'completed') AS outcome, b.error_message, b.evidence
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      c.run_id, c.step_slug, c.task_index, c.attempts_count, c.outcome, c.last_worker_id, c.started_at, c.completed_at,
      c.error_message, c.evidence
    FROM completed AS c
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
    still_going := pgflow._complete_steps(done.run_ids, done.step_slugs, done.task_counts);
    PERFORM pgflow._archive_messages(done.flow_slugs, done.message_ids);
  END IF;
  IF violation.map_slugs IS NOT NULL THEN
    PERFORM pgflow._fail_type_violations(
      run_ids, step_slugs, task_indexes, outputs, violation.map_slugs, outcomes, error_messages, evidence
    );
  END IF;
  -- Nothing can move in a run none of whose steps has ended.
  IF still_going IS NOT NULL THEN
    PERFORM pgflow._advance_runs(still_going);
  END IF;
  RETURN array_replace(violation.judgements, 'ready', 'completed');
END
$$;
