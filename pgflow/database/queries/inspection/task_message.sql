-- A task's message, in its flow's queue or in the archive of that.
SELECT
  m.place, m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, m.vt, m.archived_at,
  extract(epoch FROM m.vt - now())::float AS visible_in
FROM (
  SELECT 'queue' AS place, q.msg_id, q.read_ct, q.enqueued_at, q.last_read_at, q.vt, NULL::timestamptz AS archived_at
  FROM {queue} AS q
  WHERE q.msg_id = %(message_id)s
  UNION ALL
  SELECT 'archive', a.msg_id, a.read_ct, a.enqueued_at, a.last_read_at, a.vt, a.archived_at
  FROM {archive} AS a
  WHERE a.msg_id = %(message_id)s
) AS m
