-- Runs have fewer steps left, one for each mention.
CREATE FUNCTION pgflow._count_ended_steps(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.runs AS r
  SET remaining_steps = r.remaining_steps - ended.steps
  FROM (SELECT b.run_id, count(*) AS steps FROM unnest(run_ids) AS b (run_id) GROUP BY b.run_id) AS ended
  -- Said twice, so that it goes by key in whichever order the planner joins.
  WHERE r.run_id = ANY(run_ids) AND r.run_id = ended.run_id;
END
$$;
