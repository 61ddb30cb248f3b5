SELECT msg_id, input::text AS input, flow_input::text AS flow_input
FROM pgflow.start_tasks(%(flow_slug)s, %(message_ids)s::bigint[], %(worker_id)s::uuid)
