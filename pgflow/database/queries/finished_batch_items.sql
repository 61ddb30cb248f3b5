-- A page of items that have ended and are not in the batch's files yet, oldest runs first; with `in_order` only those before
-- which none is missing. Of a run that somebody has cancelled all items have ended. Whether an item has failed is said by its
-- history, never by what its output looks like.
--
-- A run whose step has as many tasks left as items that are not written has nothing new: it costs a look at its row. Of the
-- others each item that is not written is looked at. Items that failed and wait to be run
-- again are left out. `||` detoasts, once for each run and not for each item.
WITH open_run AS MATERIALIZED (
  SELECT r.run_id, r.position, r.looked_at, s.step_slug, s.status = 'failed' AS is_cancelled, s.error_message
  FROM (
    SELECT
      r.run_id, r.position, r.unwritten - bit_count(r.failed & ~r.written) AS unwritten, r.written | r.failed AS looked_at
    FROM pgflow.batch_runs AS r
    WHERE r.batch_id = %(batch_id)s AND r.unwritten > 0 AND r.unwritten > bit_count(r.failed & ~r.written)
    ORDER BY r.position
    OFFSET 0
  ) AS r
  CROSS JOIN LATERAL (
    SELECT s.step_slug, s.status, s.error_message
    FROM pgflow.step_states AS s
    WHERE s.run_id = r.run_id AND (s.status || '' = 'failed' OR s.remaining_tasks < r.unwritten OR %(in_order)s)
    OFFSET 0
  ) AS s
  ORDER BY r.position
  LIMIT 4
),
ended AS (
  SELECT r.run_id, r.position, r.is_cancelled, r.error_message, t.*
  FROM open_run AS r
  CROSS JOIN LATERAL (
    SELECT
      t.ctid AS row_id,
      t.step_slug,
      t.task_index,
      t.attempts_count,
      t.requeued_count,
      t.started_at,
      t.status = 'completed' AS is_complete,
      coalesce(pg_column_size(t.output), 0) AS size
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = r.run_id AND t.step_slug = r.step_slug AND get_bit(r.looked_at, t.task_index) = 0
    OFFSET 0
  ) AS t
  WHERE t.is_complete OR r.is_cancelled OR %(in_order)s
),
page AS MATERIALIZED (
  SELECT e.*
  FROM (
    SELECT
      e.*,
      bool_and(e.is_complete OR e.is_cancelled) OVER up_to AS has_all_before,
      sum(e.size) OVER up_to - e.size AS size_before
    FROM ended AS e
    WINDOW up_to AS (ORDER BY e.position, e.task_index ROWS UNBOUNDED PRECEDING)
    ORDER BY e.position, e.task_index
    LIMIT %(limit)s
  ) AS e
  WHERE e.has_all_before AND e.size_before < %(bytes)s
),
run AS MATERIALIZED (
  SELECT
    r.run_id,
    r.item_count,
    r.item_indexes || '{}' AS item_indexes,
    r.keys || ''::bytea AS keys,
    f.input || '[]'::jsonb AS input
  FROM pgflow.batch_runs AS r
  JOIN pgflow.runs AS f ON f.run_id = r.run_id
  WHERE r.run_id = ANY(ARRAY(SELECT DISTINCT p.run_id FROM page AS p))
)
SELECT
  p.run_id::text AS run_id,
  p.task_index,
  run.item_count,
  run.item_indexes[p.task_index + 1] AS item_index,
  substring(run.keys FROM p.task_index * 16 + 1 FOR 16) AS key,
  (run.input -> p.task_index)::text AS item,
  CASE WHEN p.is_complete THEN coalesce(h.outcome, 'completed') ELSE 'cancelled' END AS outcome,
  CASE
    WHEN NOT p.is_complete THEN jsonb_build_object(
      'message', p.error_message, 'kind', 'cancelled', 'attempts', p.attempts_count
    )
    WHEN h.outcome <> 'completed' THEN t.output -> '$error'
    ELSE t.output
  END::text AS output,
  p.attempts_count AS attempts,
  extract(epoch FROM p.started_at)::float AS started_at,
  coalesce((h.evidence ->> 'elapsed_seconds')::float, extract(epoch FROM h.ended_at - h.started_at)::float, 0)
    AS elapsed_seconds,
  CASE
    WHEN p.attempts_count + p.requeued_count <= 1 THEN (h.evidence ->> 'cpu_seconds')::float
    ELSE (
      SELECT sum((a.evidence ->> 'cpu_seconds')::float)
      FROM pgflow.task_attempts AS a
      WHERE a.run_id = p.run_id AND a.step_slug = p.step_slug AND a.task_index = p.task_index
    )
  END AS cpu_seconds,
  (h.evidence ->> 'peak_rss')::bigint AS peak_rss,
  (h.evidence ->> 'exit_code')::int AS exit_code,
  coalesce((SELECT w.host FROM pgflow.worker_processes AS w WHERE w.worker_id = h.worker_id), '') AS host
FROM page AS p
JOIN run ON run.run_id = p.run_id
CROSS JOIN LATERAL (
  SELECT t.output
  FROM pgflow.step_tasks AS t
  WHERE t.ctid = p.row_id  -- by key an index without the task's may be taken, with statistics of another time
  OFFSET 0
) AS t
LEFT JOIN LATERAL (
  SELECT a.outcome, a.started_at, a.ended_at, a.worker_id, a.evidence
  FROM pgflow.task_attempts AS a
  WHERE a.run_id = p.run_id AND a.step_slug = p.step_slug AND a.task_index = p.task_index
  ORDER BY a.attempt_id DESC
  LIMIT 1
) AS h ON true
ORDER BY p.position, p.task_index
