-- Archive messages of several flows' queues; one call of pgmq for each flow. Messages that are not there are no error,
-- and neither is a queue that somebody has dropped: its flow's runs end all the same.
CREATE FUNCTION pgflow._archive_messages(flow_slugs text[], message_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgmq.archive(q.flow_slug, q.message_ids)
  FROM (
    SELECT m.flow_slug, array_agg(m.message_id ORDER BY m.message_id) AS message_ids
    FROM unnest(_archive_messages.flow_slugs, _archive_messages.message_ids) AS m (flow_slug, message_id)
    WHERE m.message_id IS NOT NULL
    GROUP BY m.flow_slug
    ORDER BY m.flow_slug
    OFFSET 0  -- looked for once a flow, not once a message
  ) AS q
  WHERE to_regclass(format('pgmq.%I', pgmq.format_table_name(q.flow_slug, 'q'))) IS NOT NULL;
END
$$;
