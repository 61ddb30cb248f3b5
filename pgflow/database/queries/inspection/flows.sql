-- Flows, those with the newest run first, with what became of the runs of the last day. Reads all runs.
SELECT
  f.flow_slug,
  f.opt_max_attempts AS max_attempts,
  f.opt_base_delay AS base_delay,
  f.opt_timeout AS timeout,
  f.created_at,
  (SELECT count(*) FROM pgflow.steps AS s WHERE s.flow_slug = f.flow_slug) AS steps,
  coalesce(r.unfinished, 0) AS unfinished_runs,
  coalesce(r.started, 0) AS day_started,
  coalesce(r.completed, 0) AS day_completed,
  coalesce(r.failed, 0) AS day_failed,
  r.last_started_at
FROM pgflow.flows AS f
LEFT JOIN (
  SELECT
    r.flow_slug,
    count(*) FILTER (WHERE r.status = 'started') AS unfinished,
    count(*) FILTER (WHERE r.started_at > now() - interval '1 day') AS started,
    count(*) FILTER (WHERE r.completed_at > now() - interval '1 day') AS completed,
    count(*) FILTER (WHERE r.failed_at > now() - interval '1 day') AS failed,
    max(r.started_at) AS last_started_at
  FROM pgflow.runs AS r
  WHERE %(flow_slug)s::text IS NULL OR r.flow_slug = %(flow_slug)s
  GROUP BY r.flow_slug
) AS r ON r.flow_slug = f.flow_slug
WHERE %(flow_slug)s::text IS NULL OR f.flow_slug = %(flow_slug)s
ORDER BY r.last_started_at DESC NULLS LAST, f.created_at DESC, f.flow_slug
LIMIT %(limit)s
