-- Lock the runs, then the step states of a batch, each in the order of their keys: every function that changes a run
-- begins like this, so that batches which overlap wait for each other and never in a circle.
CREATE FUNCTION pgflow._lock_steps(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO ''
AS $$
BEGIN
  PERFORM
  FROM pgflow.runs AS r
  WHERE r.run_id = ANY(run_ids)
  ORDER BY r.run_id
  FOR UPDATE;

  PERFORM
  FROM pgflow.step_states AS s
  WHERE (s.run_id, s.step_slug) IN (SELECT b.run_id, b.step_slug FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug))
  ORDER BY s.run_id, s.step_slug
  FOR UPDATE;
END
$$;
