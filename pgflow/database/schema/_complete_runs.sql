-- Complete the runs that have no steps left. Their output is that of the completed steps nobody depends on.
CREATE FUNCTION pgflow._complete_runs(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  completed uuid[];
BEGIN
  WITH ended AS (
    UPDATE pgflow.runs AS r
    SET
      status = 'completed',
      completed_at = greatest(now(), r.started_at),
      output = (
        SELECT jsonb_object_agg(s.step_slug, s.output)
        FROM (
          -- For itself: with statistics of a single row the planner takes the flow's index and reads all its runs.
          SELECT s.flow_slug, s.step_slug, s.output
          FROM pgflow.step_states AS s
          WHERE s.run_id = r.run_id AND s.status = 'completed'
          OFFSET 0
        ) AS s
        WHERE NOT EXISTS (
            SELECT FROM pgflow.deps AS d WHERE d.flow_slug = s.flow_slug AND d.dep_slug = s.step_slug
          )
      )
    WHERE r.run_id = ANY(_complete_runs.run_ids)
      AND r.remaining_steps = 0
      AND r.status || '' = 'started'
    RETURNING r.run_id
  )
  SELECT array_agg(ended.run_id) INTO completed
  FROM ended;

  IF completed IS NOT NULL THEN
    PERFORM pgflow._emit_run_events('completed', completed);
  END IF;
END
$$;
