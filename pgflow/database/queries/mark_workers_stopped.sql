SELECT pgflow.mark_worker_stopped(w.worker_id)
FROM (SELECT w.worker_id FROM unnest(%(worker_ids)s::uuid[]) AS w (worker_id) ORDER BY w.worker_id) AS w
