-- The rows of workers that have shown a sign of life lately, by the index on that.
SELECT
  w.worker_id::text AS worker_id,
  w.function_name AS name,
  w.queue_name AS flow_slug,
  w.started_at,
  CASE
    WHEN w.stopped_at IS NOT NULL THEN 'stopped'
    WHEN w.last_heartbeat_at < now() - interval '30 seconds' THEN 'silent'
    WHEN w.deprecated_at IS NOT NULL THEN 'deprecated'
    ELSE 'alive'
  END AS status
FROM pgflow.workers AS w
WHERE w.last_heartbeat_at > now() - interval '2 minutes'
ORDER BY w.last_heartbeat_at DESC
LIMIT %(limit)s
