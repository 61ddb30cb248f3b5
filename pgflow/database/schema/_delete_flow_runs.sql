-- Delete all runs of a flow with everything that belongs to them but messages, and its batches.
--
-- Who starts a run shares the first lock, so that no run comes while the others go: those that are being started are waited
-- for and deleted too, later ones find the flow gone. The flow's row would not do for that: who completes a task holds the
-- run and then looks at that row, because new tasks refer to it.
CREATE FUNCTION pgflow._delete_flow_runs(p_flow_slug text)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4, hashtext(p_flow_slug));
  PERFORM pgflow._delete_batches(p_flow_slug);
  PERFORM FROM pgflow.runs AS r WHERE r.flow_slug = p_flow_slug ORDER BY r.run_id FOR UPDATE;
  DELETE FROM pgflow.task_attempts AS a
  WHERE a.run_id IN (SELECT r.run_id FROM pgflow.runs AS r WHERE r.flow_slug = p_flow_slug);
  DELETE FROM pgflow.step_tasks AS t WHERE t.flow_slug = p_flow_slug;
  DELETE FROM pgflow.step_states AS s WHERE s.flow_slug = p_flow_slug;
  DELETE FROM pgflow.runs AS r WHERE r.flow_slug = p_flow_slug;
END
$$;
