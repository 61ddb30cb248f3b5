-- Make messages of several flows' queues visible that many seconds from now() each; one statement for each flow. Workers
-- that wait learn of it, of delays too: they know when the next one ends.
CREATE FUNCTION pgflow._delay_messages(flow_slugs text[], message_ids bigint[], delays int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT m.slug, array_agg(m.id) AS ids, array_agg(m.delay) AS delays
    FROM unnest(flow_slugs, message_ids, _delay_messages.delays) AS m (slug, id, delay)
    GROUP BY m.slug
    ORDER BY m.slug
  LOOP
    EXECUTE format(
      $query$
        UPDATE pgmq.%I AS q
        SET vt = now() + make_interval(secs => m.delay)
        FROM unnest($1, $2) AS m (id, delay)
        -- Said twice, so that it goes by key in whichever order the planner joins.
        WHERE q.msg_id = ANY($1) AND q.msg_id = m.id
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) USING queue.ids, queue.delays;
  END LOOP;
  PERFORM pgflow._wake_workers(flow_slugs);
END
$$;
