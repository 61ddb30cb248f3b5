-- Workers, but one's own, that have been silent, or that hold tasks although they have stopped or their rows are gone.
SELECT
  k.worker_id::text AS worker_id,
  w.last_heartbeat_at AS heartbeat,
  w.worker_id IS NULL OR w.stopped_at IS NOT NULL AS is_stopped,
  coalesce(w.function_name, '') AS name,
  k.holds
FROM (
  SELECT k.worker_id, sum(k.holds)::int AS holds
  FROM (
    SELECT w.worker_id, 0 AS holds
    FROM pgflow.workers AS w
    WHERE w.stopped_at IS NULL AND w.last_heartbeat_at < now() - make_interval(secs => %(silent_seconds)s)
    UNION ALL
    SELECT t.last_worker_id, count(*)
    FROM pgflow.step_tasks AS t
    WHERE t.status = 'started' AND t.permanently_stalled_at IS NULL AND t.last_worker_id IS NOT NULL
    GROUP BY t.last_worker_id
  ) AS k
  GROUP BY k.worker_id
) AS k
LEFT JOIN pgflow.workers AS w ON w.worker_id = k.worker_id
WHERE k.worker_id <> ALL(%(own_worker_ids)s::uuid[])
  AND (
    w.worker_id IS NULL
    OR w.stopped_at IS NOT NULL
    OR w.last_heartbeat_at < now() - make_interval(secs => %(silent_seconds)s)
  )
ORDER BY k.worker_id
