-- Of messages of one queue that were locked to be claimed, those that could not be started and so are visible still: archive
-- those that no task belongs to, which would come back for ever, and keep the others invisible for five seconds.
CREATE FUNCTION pgflow._set_aside_messages(p_flow_slug text, message_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  left_ids bigint[];
BEGIN
  EXECUTE format(
    'SELECT array_agg(q.msg_id) FROM pgmq.%I AS q WHERE q.msg_id = ANY($1) AND q.vt <= clock_timestamp()',
    pgmq.format_table_name(p_flow_slug, 'q')
  ) INTO left_ids USING message_ids;
  IF left_ids IS NULL THEN  -- the clock was set back
    RETURN;
  END IF;

  PERFORM pgflow._hide_messages(p_flow_slug, left_ids, array_fill(5, ARRAY[cardinality(left_ids)]), 1);
  PERFORM pgmq.archive(p_flow_slug, array_agg(m.msg_id))
  FROM unnest(left_ids) AS m (msg_id)
  WHERE NOT EXISTS (
    SELECT FROM pgflow.step_tasks AS t WHERE t.flow_slug = p_flow_slug AND t.message_id = m.msg_id
  );
END
$$;
