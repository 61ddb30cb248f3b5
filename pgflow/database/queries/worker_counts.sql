-- Workers that have not stopped, by whether they have shown a sign of life in the last 30 seconds.
SELECT
  count(*) FILTER (WHERE last_heartbeat_at >= now() - interval '30 seconds') AS alive,
  count(*) FILTER (WHERE last_heartbeat_at < now() - interval '30 seconds') AS silent
FROM pgflow.workers
WHERE stopped_at IS NULL
