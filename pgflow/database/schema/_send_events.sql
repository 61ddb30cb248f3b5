-- Send events, in the order of the arrays: through realtime, or as notifications on pgflow_events, {"event", "topic",
-- "payload"}. A notification holds less than 8,000 bytes and would fail the caller's transaction otherwise, so a longer
-- one goes without input, output, error_message and skip_reason, which are as long as somebody made them, and says
-- "truncated": true.
CREATE FUNCTION pgflow._send_events(run_ids uuid[], events text[], payloads jsonb[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF pgflow._has_realtime() THEN
    -- Dynamic, because pgflow is installed without it.
    EXECUTE $query$
      SELECT realtime.send(e.payload, e.event, 'pgflow:run:' || e.run_id, false)
      FROM unnest($1, $2, $3) AS e (run_id, event, payload)
    $query$ USING run_ids, events, payloads;
    RETURN;
  END IF;

  PERFORM pg_notify(
    'pgflow_events',
    CASE
      WHEN octet_length(n.message::text) < 8000 THEN n.message::text
      ELSE (
        jsonb_set(n.message, '{payload}', (n.message -> 'payload') - '{input,output,error_message,skip_reason}'::text[])
        || '{"truncated": true}'
      )::text
    END
  )
  FROM (
    SELECT jsonb_build_object('event', e.event, 'topic', 'pgflow:run:' || e.run_id, 'payload', e.payload) AS message
    FROM unnest(run_ids, events, payloads) AS e (run_id, event, payload)
  ) AS n;
END
$$;
