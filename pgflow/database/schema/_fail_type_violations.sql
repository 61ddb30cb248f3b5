-- Fail the runs in which an output cannot feed the map that waits for it: a single step's output that is no array
-- although a dependent map takes its elements from it. Task, step and run fail, whatever attempts are left; the output
-- is kept for whoever looks for the reason. Returns the batch's judgements: 'failed' for the first such task of a run,
-- and 'over' for its other tasks. `any_attempt` says that the batch does not fence: then a task need not be started.
CREATE FUNCTION pgflow._fail_type_violations(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  any_attempt boolean,
  judgements text[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  violation record;
BEGIN
  WITH violating AS (
    SELECT DISTINCT ON (b.run_id)
      b.position,
      b.run_id,
      b.step_slug,
      b.task_index,
      b.output,
      coalesce(jsonb_typeof(b.output), 'null') AS type,
      child.step_slug AS map_slug
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, output, judgement, position)
    CROSS JOIN LATERAL (
      SELECT t.flow_slug, t.step_slug, t.status
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t
    CROSS JOIN LATERAL (
      SELECT definition.step_slug, definition.step_index
      FROM pgflow.deps AS d
      JOIN pgflow.steps AS definition
        ON definition.flow_slug = t.flow_slug AND definition.step_slug = d.step_slug
      WHERE d.flow_slug = t.flow_slug AND d.dep_slug = t.step_slug AND definition.step_type = 'map'
      OFFSET 0
    ) AS child
    WHERE (b.judgement = 'ready' OR (any_attempt AND b.judgement = 'stale' AND t.status = 'queued'))
      AND jsonb_typeof(b.output) IS DISTINCT FROM 'array'
      AND (
        SELECT definition.step_type
        FROM pgflow.steps AS definition
        WHERE definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
      ) = 'single'
      AND EXISTS (
        SELECT
        FROM pgflow.step_states AS waiting
        WHERE waiting.run_id = b.run_id AND waiting.step_slug = child.step_slug AND waiting.initial_tasks IS NULL
        OFFSET 0
      )
    ORDER BY b.run_id, b.position, child.step_index
  )
  SELECT
    array_agg(v.position) AS positions,
    array_agg(v.run_id) AS run_ids,
    array_agg(v.step_slug) AS step_slugs,
    array_agg(v.task_index) AS task_indexes,
    array_agg(v.output) AS outputs,
    array_agg(format('[TYPE_VIOLATION] Produced %s instead of array', v.type)) AS task_errors,
    array_agg(
      format(
        '[TYPE_VIOLATION] Map step %s expects array input but dependency %s produced %s',
        v.map_slug, v.step_slug, v.type
      )
    ) AS step_errors
  INTO violation
  FROM violating AS v;

  IF violation.positions IS NULL THEN
    RETURN judgements;
  END IF;

  PERFORM pgflow._fail_steps(violation.run_ids, violation.step_slugs, violation.step_errors, is_type_violation => true);

  UPDATE pgflow.step_tasks AS t
  SET status = 'failed', failed_at = greatest(now(), t.queued_at, t.started_at), output = v.output, error_message = v.error_message
  FROM unnest(
    violation.run_ids, violation.step_slugs, violation.task_indexes, violation.outputs, violation.task_errors
  ) AS v (run_id, step_slug, task_index, output, error_message)
  CROSS JOIN LATERAL (
    SELECT k.ctid
    FROM pgflow.step_tasks AS k
    WHERE k.run_id = v.run_id AND k.step_slug = v.step_slug AND k.task_index = v.task_index
    OFFSET 0
  ) AS k
  WHERE t.ctid = k.ctid;

  RETURN (
    SELECT array_agg(
      CASE
        WHEN b.position = ANY(violation.positions) THEN 'failed'
        WHEN b.run_id = ANY(violation.run_ids) AND b.judgement <> 'unknown' THEN 'over'
        ELSE b.judgement
      END
      ORDER BY b.position
    )
    FROM unnest(run_ids, judgements) WITH ORDINALITY AS b (run_id, judgement, position)
  );
END
$$;
