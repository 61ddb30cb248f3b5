-- What is running of a batch, the longest first, and how many there are. Found among all tasks that are started, which are few.
--
-- A worker claims short tasks ahead, which are started then and wait for a slot: no more of a worker's run than the `slots`
-- that one is taken to have.
WITH started AS MATERIALIZED (
  SELECT t.run_id, t.task_index, t.attempts_count, t.started_at, t.last_worker_id
  FROM pgflow.step_tasks AS t
  WHERE t.status = 'started' AND t.flow_slug || '' = %(flow_slug)s
)
SELECT
  (
    SELECT sum(least(w.tasks, %(slots)s))::int
    FROM (SELECT count(*) AS tasks FROM started AS t GROUP BY t.last_worker_id) AS w
  ) AS running,
  r.item_indexes[t.task_index + 1] AS item_index,
  (f.input -> t.task_index)::text AS item,
  t.attempts_count AS attempt,
  extract(epoch FROM clock_timestamp() - t.started_at)::float AS seconds
FROM (SELECT t.* FROM started AS t ORDER BY t.started_at LIMIT %(limit)s) AS t
JOIN pgflow.batch_runs AS r ON r.run_id = t.run_id
JOIN pgflow.runs AS f ON f.run_id = t.run_id
ORDER BY t.started_at
