-- Make messages of several flows' queues visible after that many seconds each; one call for each flow. Workers that wait
-- learn of it, of delays too: they know when the next one ends.
CREATE FUNCTION pgflow._delay_messages(flow_slugs text[], message_ids bigint[], delays int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow.set_vt_batch(q.flow_slug, q.message_ids, q.delays)
  FROM (
    SELECT
      m.flow_slug,
      array_agg(m.message_id ORDER BY m.message_id) AS message_ids,
      array_agg(m.delay ORDER BY m.message_id) AS delays
    FROM unnest(_delay_messages.flow_slugs, _delay_messages.message_ids, _delay_messages.delays)
      AS m (flow_slug, message_id, delay)
    GROUP BY m.flow_slug
    ORDER BY m.flow_slug
  ) AS q;
  PERFORM pgflow._wake_workers(flow_slugs);
END
$$;
