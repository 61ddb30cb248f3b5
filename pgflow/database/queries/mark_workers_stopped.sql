SELECT pgflow.mark_worker_stopped(worker_id)
FROM unnest(%(worker_ids)s::uuid[]) AS w (worker_id)
