-- Messages that no task belongs to would come back for ever.
SELECT pgmq.archive(%(flow_slug)s, array_agg(m.msg_id))
FROM unnest(%(message_ids)s::bigint[]) AS m (msg_id)
WHERE NOT EXISTS (
  SELECT FROM pgflow.step_tasks AS t WHERE t.flow_slug = %(flow_slug)s AND t.message_id = m.msg_id
)
HAVING count(*) > 0
