-- Keep messages of several flows' queues invisible for at least that many seconds each from now.
CREATE FUNCTION pgflow._keep_messages_invisible(flow_slugs text[], message_ids bigint[], seconds int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT m.slug, array_agg(m.id) AS ids, array_agg(m.seconds) AS seconds
    FROM unnest(flow_slugs, message_ids, _keep_messages_invisible.seconds) AS m (slug, id, seconds)
    GROUP BY m.slug
    ORDER BY m.slug
  LOOP
    EXECUTE format(
      $query$
        UPDATE pgmq.%I AS q
        SET vt = greatest(q.vt, clock_timestamp() + make_interval(secs => m.seconds))
        FROM unnest($1, $2) AS m (id, seconds)
        -- Said twice, so that it goes by key in whichever order the planner joins.
        WHERE q.msg_id = ANY($1) AND q.msg_id = m.id
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) USING queue.ids, queue.seconds;
  END LOOP;
END
$$;
