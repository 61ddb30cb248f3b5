-- A worker that was taken for dead because it was slow lives again. Locked by key, as by all who change several rows.
WITH own AS (
  SELECT w.worker_id
  FROM pgflow.workers AS w
  WHERE w.worker_id = ANY(%(worker_ids)s::uuid[])
  ORDER BY w.worker_id
  FOR NO KEY UPDATE
)
UPDATE pgflow.workers AS w
SET last_heartbeat_at = clock_timestamp(), stopped_at = NULL
FROM own
WHERE w.worker_id = own.worker_id
RETURNING w.worker_id::text AS worker_id, w.deprecated_at IS NOT NULL AS deprecated
