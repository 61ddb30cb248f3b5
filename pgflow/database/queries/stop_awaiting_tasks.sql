SELECT pgflow.stop_awaiting_tasks(%(worker_ids)s::uuid[])
