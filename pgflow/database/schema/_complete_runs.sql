-- Runs, which the caller holds, have `ended` steps left fewer for each mention, 1 or 0; those that have none left complete.
-- Their output is that of the completed steps nobody depends on. Returns the runs that have some left.
CREATE FUNCTION pgflow._complete_runs(run_ids uuid[], ended int)
RETURNS uuid[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  counted record;
BEGIN
  WITH counted AS (
    UPDATE pgflow.runs AS r
    SET
      remaining_steps = k.remaining_steps,
      status = CASE WHEN k.is_last THEN 'completed' ELSE r.status END,
      completed_at = CASE WHEN k.is_last THEN greatest(now(), r.started_at) ELSE r.completed_at END,
      output = CASE
        WHEN k.is_last THEN (
          SELECT jsonb_object_agg(s.step_slug, s.output)
          FROM (
            -- For itself: with statistics of a single row the planner takes the flow's index and reads all its runs.
            SELECT s.flow_slug, s.step_slug, s.output
            FROM pgflow.step_states AS s
            WHERE s.run_id = r.run_id AND s.status || '' = 'completed'
            OFFSET 0
          ) AS s
          WHERE NOT EXISTS (
              SELECT FROM pgflow.deps AS d WHERE d.flow_slug = s.flow_slug AND d.dep_slug = s.step_slug
            )
        )
        ELSE r.output
      END
    FROM (
      SELECT b.run_id, count(*) * _complete_runs.ended AS steps FROM unnest(run_ids) AS b (run_id) GROUP BY b.run_id
    ) AS b
    CROSS JOIN LATERAL (
      SELECT
        k.ctid,
        k.remaining_steps - b.steps AS remaining_steps,
        k.remaining_steps = b.steps AND k.status = 'started' AS is_last
      FROM pgflow.runs AS k
      WHERE k.run_id = b.run_id
      OFFSET 0
    ) AS k
    WHERE r.ctid = k.ctid AND (k.is_last OR b.steps > 0)
    RETURNING r.run_id, k.is_last
  )
  SELECT
    array_agg(c.run_id) FILTER (WHERE c.is_last) AS completed,
    array_agg(c.run_id) FILTER (WHERE NOT c.is_last) AS still_going
  INTO counted
  FROM counted AS c;

  IF counted.completed IS NOT NULL THEN
    PERFORM pgflow._emit_run_events('completed', counted.completed);
  END IF;
  RETURN counted.still_going;
END
$$;
