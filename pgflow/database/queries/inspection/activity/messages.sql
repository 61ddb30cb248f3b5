-- Tasks of one flow of which an attempt may have ended lately: the newest messages in the archive, and those in the queue that
-- were read before and become visible last, for they may be retried. Both go by an index, and the second reads few.
(
  SELECT
    {flow} AS flow_slug,
    a.message ->> 'run_id' AS run_id,
    a.message ->> 'step_slug' AS step_slug,
    (a.message ->> 'task_index')::int AS task_index,
    a.archived_at
  FROM {archive} AS a
  WHERE a.archived_at > %(since)s
  ORDER BY a.archived_at DESC
  LIMIT %(finished)s
)
UNION ALL
SELECT {flow}, q.message ->> 'run_id', q.message ->> 'step_slug', (q.message ->> 'task_index')::int, NULL
FROM (
  SELECT q.message, q.read_ct
  FROM {queue} AS q
  WHERE q.vt > now() - interval '1 minute'
  ORDER BY q.vt DESC
  LIMIT %(retried)s
) AS q
WHERE q.read_ct > 0
