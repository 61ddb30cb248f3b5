-- Tasks of steps have completed: the steps have that many fewer left, and those with none left complete, with the
-- task's output, or for a map all outputs in the order of the elements; their dependents learn of it. Runs without any step
-- left complete; returns the others of those that have fewer now, which may come further.
CREATE FUNCTION pgflow._complete_steps(run_ids uuid[], step_slugs text[], task_counts int[])
RETURNS uuid[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  completed record;
  still_going uuid[];
BEGIN
  WITH counted AS (
    UPDATE pgflow.step_states AS s
    SET
      remaining_tasks = s.remaining_tasks - c.task_count,
      status = CASE WHEN s.remaining_tasks = c.task_count THEN 'completed' ELSE s.status END,
      completed_at = CASE WHEN s.remaining_tasks = c.task_count THEN greatest(now(), s.started_at) END,
      -- Only the last task's batch reads the outputs of them all.
      output = CASE
        WHEN s.remaining_tasks > c.task_count THEN NULL
        WHEN k.step_type = 'map' THEN (
          SELECT jsonb_agg(coalesce(t.output, 'null'::jsonb) ORDER BY t.task_index)
          FROM pgflow.step_tasks AS t
          WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug
        )
        ELSE (
          SELECT t.output
          FROM pgflow.step_tasks AS t
          WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug AND t.task_index = 0
        )
      END
    FROM unnest(run_ids, step_slugs, task_counts) AS c (run_id, step_slug, task_count)
    CROSS JOIN LATERAL (
      SELECT
        k.ctid,
        (
          SELECT definition.step_type
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = k.flow_slug AND definition.step_slug = k.step_slug
        ) AS step_type
      FROM pgflow.step_states AS k
      WHERE k.run_id = c.run_id AND k.step_slug = c.step_slug
      OFFSET 0
    ) AS k
    WHERE s.ctid = k.ctid
    RETURNING s.run_id, s.step_slug, s.status
  )
  SELECT array_agg(c.run_id) AS run_ids, array_agg(c.step_slug) AS step_slugs INTO completed
  FROM counted AS c
  WHERE c.status = 'completed';

  IF completed.run_ids IS NOT NULL THEN
    PERFORM pgflow._emit_step_events('completed', completed.run_ids, completed.step_slugs);
    PERFORM pgflow._release_dependents(completed.run_ids, completed.step_slugs);
    still_going := pgflow._complete_runs(completed.run_ids, 1);
  END IF;
  RETURN still_going;
END
$$;
