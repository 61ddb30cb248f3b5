-- Lock messages of several flows' queues, but those that somebody else has locked; returns the positions of those that are
-- locked now, and their flows. Who locks them like this waits for nobody, and so may come without the tasks locked.
CREATE FUNCTION pgflow._lock_messages(flow_slugs text[], message_ids bigint[], positions int[])
RETURNS TABLE (flow_slug text, position_locked int)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT m.slug, array_agg(m.id) AS ids, array_agg(m.place) AS places
    FROM unnest(flow_slugs, message_ids, positions) AS m (slug, id, place)
    GROUP BY m.slug
  LOOP
    RETURN QUERY EXECUTE format(
      $query$
        SELECT $1, m.place
        FROM unnest($2, $3) AS m (id, place)
        JOIN pgmq.%I AS q ON q.msg_id = m.id
        FOR UPDATE OF q SKIP LOCKED
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) USING queue.slug, queue.ids, queue.places;
  END LOOP;
END
$$;
