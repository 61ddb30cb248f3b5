SELECT worker_id::text AS worker_id, host, scope, pid, started
FROM pgflow.worker_processes
WHERE worker_id = ANY(%(worker_ids)s::uuid[])
