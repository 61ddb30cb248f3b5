-- Without waiting for anybody: tasks are locked before messages elsewhere, here only messages are.
SELECT q.msg_id
FROM {queue} AS q
WHERE q.msg_id = ANY(%(message_ids)s::bigint[])
FOR UPDATE SKIP LOCKED
