UPDATE {queue} AS q
SET vt = greatest(q.vt, clock_timestamp() + make_interval(secs => m.seconds))
FROM unnest(%(message_ids)s::bigint[], %(seconds)s::int[]) AS m (id, seconds)
WHERE q.msg_id = ANY(%(message_ids)s::bigint[]) AND q.msg_id = m.id
