-- Worker processes: the rows that were registered together under one name. Those that go on first, then the newest.
SELECT
  w.worker_ids::text[] AS worker_ids,
  w.name,
  w.flow_slugs,
  w.status,
  w.started_at,
  w.last_heartbeat_at,
  extract(epoch FROM now() - w.last_heartbeat_at)::float AS silent_seconds,
  w.deprecated_at,
  w.stopped_at,
  (
    SELECT count(*)
    FROM pgflow.step_tasks AS t
    WHERE t.status = 'started'
      AND t.permanently_stalled_at IS NULL
      AND t.last_worker_id = ANY(w.worker_ids)
      -- Tasks keep their status when their run fails.
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = t.run_id) = 'started'
  ) AS holds
FROM (
  SELECT
    w.*,
    CASE
      WHEN w.stopped_at IS NOT NULL THEN 'stopped'
      WHEN w.last_heartbeat_at < now() - interval '30 seconds' THEN 'silent'
      WHEN w.deprecated_at IS NOT NULL THEN 'deprecated'
      ELSE 'alive'
    END AS status
  FROM (
    SELECT
      array_agg(k.worker_id ORDER BY k.queue_name, k.worker_id) AS worker_ids,
      k.function_name AS name,
      array_agg(k.queue_name ORDER BY k.queue_name, k.worker_id) AS flow_slugs,
      k.started_at,
      max(k.last_heartbeat_at) AS last_heartbeat_at,
      min(k.deprecated_at) AS deprecated_at,
      CASE WHEN bool_and(k.stopped_at IS NOT NULL) THEN max(k.stopped_at) END AS stopped_at
    FROM pgflow.workers AS k
    GROUP BY k.function_name, k.started_at
    HAVING (%(first)s::uuid IS NULL OR bool_or(k.worker_id BETWEEN %(first)s::uuid AND %(last)s::uuid))
      AND (%(worker_ids)s::uuid[] IS NULL OR bool_or(k.worker_id = ANY(%(worker_ids)s::uuid[])))
      AND (%(flow_slug)s::text IS NULL OR bool_or(k.queue_name = %(flow_slug)s))
  ) AS w
) AS w
WHERE %(status)s::text IS NULL OR w.status = %(status)s
ORDER BY w.status = 'stopped', w.started_at DESC, w.name
LIMIT %(limit)s
