-- Archive messages of several flows' queues; one call of pgmq for each flow. Or delete them, where the database says so:
-- ALTER DATABASE name SET pgflow.finished_messages = 'delete'. What they say is in step_tasks, too. Messages that are not
-- there are no error, and neither is a queue that somebody has dropped: its flow's runs end all the same.
CREATE FUNCTION pgflow._archive_messages(flow_slugs text[], message_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  is_kept CONSTANT boolean := coalesce(current_setting('pgflow.finished_messages', true) <> 'delete', true);
BEGIN
  PERFORM removed.message_id
  FROM (
    SELECT m.flow_slug, array_agg(m.message_id ORDER BY m.message_id) AS message_ids
    FROM unnest(_archive_messages.flow_slugs, _archive_messages.message_ids) AS m (flow_slug, message_id)
    WHERE m.message_id IS NOT NULL
    GROUP BY m.flow_slug
    ORDER BY m.flow_slug
    OFFSET 0  -- looked for once a flow, not once a message
  ) AS q
  CROSS JOIN LATERAL (
    SELECT pgmq.archive(q.flow_slug, q.message_ids) AS message_id WHERE is_kept
    UNION ALL
    SELECT pgmq.delete(q.flow_slug, q.message_ids) WHERE NOT is_kept
  ) AS removed
  WHERE to_regclass(format('pgmq.%I', pgmq.format_table_name(q.flow_slug, 'q'))) IS NOT NULL;
END
$$;
