-- Locked by key, as by all who change several rows.
WITH going AS (
  SELECT w.worker_id
  FROM pgflow.workers AS w
  WHERE w.worker_id = ANY(%(worker_ids)s::uuid[]) AND w.stopped_at IS NULL AND w.deprecated_at IS NULL
  ORDER BY w.worker_id
  FOR NO KEY UPDATE
)
UPDATE pgflow.workers AS w
SET deprecated_at = now()
FROM going
WHERE w.worker_id = going.worker_id
RETURNING w.worker_id::text AS worker_id
