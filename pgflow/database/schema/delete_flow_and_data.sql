-- Delete a flow with its queue and everything that its runs left. In the order of locks, so the queue goes last.
CREATE FUNCTION pgflow.delete_flow_and_data(p_flow_slug text)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._delete_flow_runs(p_flow_slug);
  DELETE FROM pgflow.deps AS d WHERE d.flow_slug = p_flow_slug;
  DELETE FROM pgflow.steps AS s WHERE s.flow_slug = p_flow_slug;
  DELETE FROM pgflow.flows AS f WHERE f.flow_slug = p_flow_slug;
  PERFORM pgmq.drop_queue(p_flow_slug);
END
$$;
