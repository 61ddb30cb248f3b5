-- Tell of runs that have just become `kind`: started, completed or failed. Error messages stand in the events of failed
-- runs only if they are given.
CREATE FUNCTION pgflow._emit_run_events(kind text, run_ids uuid[], error_messages text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT pgflow._emits_events() THEN
    RETURN;
  END IF;

  PERFORM pgflow._send_events(
    array_agg(e.run_id ORDER BY e.position),
    array_agg('run:' || kind ORDER BY e.position),
    array_agg(e.payload ORDER BY e.position)
  )
  FROM (
    SELECT
      b.position,
      b.run_id,
      jsonb_build_object('event_type', 'run:' || kind, 'run_id', r.run_id, 'flow_slug', r.flow_slug, 'status', r.status)
      || CASE kind
        WHEN 'started' THEN
          jsonb_build_object('input', r.input, 'remaining_steps', r.remaining_steps, 'started_at', r.started_at)
        WHEN 'completed' THEN jsonb_build_object('output', r.output, 'completed_at', r.completed_at)
        ELSE jsonb_build_object('failed_at', r.failed_at)
      END
      || CASE
        WHEN error_messages IS NULL THEN '{}'
        ELSE jsonb_build_object('error_message', b.error_message)
      END AS payload
    FROM unnest(run_ids, error_messages) WITH ORDINALITY AS b (run_id, error_message, position)
    CROSS JOIN LATERAL (SELECT r.* FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0) AS r
  ) AS e
  HAVING count(*) > 0;
END
$$;
