-- Ours: complete a batch of tasks, and whatever follows from that, in a number of statements that does not grow with
-- the runs and steps in it. With `attempts`, a result of another attempt than the current one changes nothing.
-- Verdicts: 'completed', 'failed' (type violation), 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.complete_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], outputs jsonb[], attempts int[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  judgements text[];
  done record;
  ended record;
  violation record;
BEGIN
  PERFORM pgflow._lock_steps(run_ids, step_slugs);

  SELECT array_agg(j.judgement ORDER BY j.ordinal) INTO judgements
  FROM pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts) AS j;

  -- A violation fails its run: of that run's other tasks, those before it in the batch complete, those behind are late.
  FOR violation IN
    SELECT DISTINCT ON (run_ids[v.ordinal]) v.ordinal AS position
    FROM pgflow._type_violations(run_ids, step_slugs, outputs) AS v
    WHERE judgements[v.ordinal] = 'ready'
    ORDER BY run_ids[v.ordinal], v.ordinal
  LOOP
    SELECT
      array_agg(
        CASE
          WHEN j.judgement <> 'ready' OR run_ids[j.position] <> run_ids[violation.position] THEN j.judgement
          WHEN j.position = violation.position THEN 'violating'
          WHEN j.position > violation.position THEN 'over'
          ELSE 'ready'
        END
        ORDER BY j.position
      )
    INTO judgements
    FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
  END LOOP;

  WITH completed AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'completed', completed_at = now(), output = b.output
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, judgements)
      AS b (run_id, step_slug, task_index, output, judgement)
    WHERE b.judgement = 'ready'
      AND t.run_id = b.run_id
      AND t.step_slug = b.step_slug
      AND t.task_index = b.task_index
    RETURNING t.run_id, t.step_slug
  ),
  counted AS (
    SELECT completed.run_id, completed.step_slug, count(*)::int AS task_count
    FROM completed
    GROUP BY completed.run_id, completed.step_slug
  )
  SELECT
    array_agg(counted.run_id) AS run_ids,
    array_agg(counted.step_slug) AS step_slugs,
    array_agg(counted.task_count) AS task_counts
  INTO done
  FROM counted;

  IF done.run_ids IS NOT NULL THEN
    SELECT * INTO ended FROM pgflow._complete_steps(done.run_ids, done.step_slugs, done.task_counts);
    IF ended.completed_runs IS NOT NULL THEN
      PERFORM pgflow._release_dependents(ended.completed_runs, ended.completed_steps);
    END IF;
  END IF;
  PERFORM pgflow._archive_ended_messages(
    array_agg(b.run_id), array_agg(b.step_slug), array_agg(b.task_index)
  )
  FROM unnest(run_ids, step_slugs, task_indexes) AS b (run_id, step_slug, task_index)
  JOIN pgflow.runs AS r ON r.run_id = b.run_id
  WHERE r.status <> 'failed';

  PERFORM pgflow._fail_on_type_violation(
    run_ids[v.ordinal], step_slugs[v.ordinal], task_indexes[v.ordinal], outputs[v.ordinal], v.type, v.map_slug
  )
  FROM pgflow._type_violations(run_ids, step_slugs, outputs) AS v
  WHERE judgements[v.ordinal] = 'violating';

  PERFORM pgflow._advance_runs(run_ids);

  RETURN QUERY
  SELECT
    j.position::int,
    CASE j.judgement WHEN 'ready' THEN 'completed' WHEN 'violating' THEN 'failed' ELSE j.judgement END
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;
