-- Keep messages of a queue, which the caller has locked or read, invisible for so many seconds each from now. `reads` is how
-- often each has been read that nobody has counted yet.
CREATE FUNCTION pgflow._hide_messages(p_flow_slug text, message_ids bigint[], seconds int[], reads int)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format(
    $query$
      UPDATE pgmq.%I AS q
      SET vt = clock_timestamp() + make_interval(secs => m.seconds), read_ct = q.read_ct + $3
      FROM unnest($1, $2) AS m (id, seconds)
      -- Said twice, so that it goes by key in whichever order the planner joins.
      WHERE q.msg_id = ANY($1) AND q.msg_id = m.id
    $query$,
    pgmq.format_table_name(p_flow_slug, 'q')
  ) USING message_ids, seconds, reads;
END
$$;
