SELECT is_waiting, next_visible_in
FROM pgflow.await_tasks(%(flow_slugs)s::text[], %(worker_ids)s::uuid[])
