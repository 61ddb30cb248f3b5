UPDATE pgflow.workers
SET last_heartbeat_at = clock_timestamp()
WHERE worker_id = ANY(%(worker_ids)s::uuid[])
RETURNING worker_id::text AS worker_id, deprecated_at IS NOT NULL AS deprecated
