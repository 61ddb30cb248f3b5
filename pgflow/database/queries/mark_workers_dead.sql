-- Who shows that it lives at this moment is left out instead of waited for.
WITH silent AS (
  SELECT w.worker_id
  FROM pgflow.workers AS w
  JOIN unnest(%(worker_ids)s::uuid[], %(heartbeats)s::timestamptz[]) AS s (worker_id, heartbeat)
    ON s.worker_id = w.worker_id AND s.heartbeat = w.last_heartbeat_at
  WHERE w.stopped_at IS NULL
  FOR NO KEY UPDATE OF w SKIP LOCKED
)
UPDATE pgflow.workers AS w
SET stopped_at = now()
FROM silent
WHERE w.worker_id = silent.worker_id
RETURNING w.worker_id::text AS worker_id
