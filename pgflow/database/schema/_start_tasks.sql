-- Start the claimable tasks of messages of one flow, and keep each message invisible for the task's timeout and two
-- seconds; `p_reads` is as in _hide_messages. Only rows that this call changed are returned, so two concurrent claims never share a task.
--
-- A task row that somebody else has locked is passed over instead of waited for: this function comes with the queue's
-- rows locked, all others lock them last.
CREATE FUNCTION pgflow._start_tasks(p_flow_slug text, p_msg_ids bigint[], p_worker_id uuid, p_reads int)
RETURNS TABLE (
  run_id uuid, step_slug text, task_index int, attempt int, msg_id bigint, kind text, input jsonb, timeout int,
  max_attempts int, retry_delay int
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  locked record;
  claimed record;
BEGIN
  -- By message first and by flow afterwards: with statistics that do not know the flow yet, the planner takes the
  -- flow's index and reads all its tasks (seen with 2,000: 125 ms a claim instead of 5).
  SELECT
    array_agg(c.ctid) AS row_ids,
    array_agg(c.run_id) AS run_ids,
    array_agg(c.step_slug) AS step_slugs
  INTO locked
  FROM (
    SELECT t.ctid, t.run_id, t.step_slug, t.flow_slug
    FROM pgflow.step_tasks AS t
    WHERE t.message_id = ANY(p_msg_ids) AND t.flow_slug || '' = p_flow_slug AND t.status || '' = 'queued'
    FOR UPDATE SKIP LOCKED
  ) AS c;
  IF locked.row_ids IS NULL THEN
    RETURN;
  END IF;

  -- Whether run and step go on is asked with the tasks locked, once for all tasks of a step: of a run that has failed
  -- the messages are archived.
  WITH step AS (
    SELECT b.run_id, b.step_slug, array_agg(b.row_id) AS row_ids
    FROM unnest(locked.row_ids, locked.run_ids, locked.step_slugs) AS b (row_id, run_id, step_slug)
    GROUP BY b.run_id, b.step_slug
  ),
  claimable AS (
    SELECT b.row_id, state.timeout
    FROM step
    CROSS JOIN LATERAL (
      SELECT
        coalesce(
          (
            SELECT definition.opt_timeout
            FROM pgflow.steps AS definition
            WHERE definition.flow_slug = p_flow_slug AND definition.step_slug = step.step_slug
          ),
          (SELECT f.opt_timeout FROM pgflow.flows AS f WHERE f.flow_slug = p_flow_slug)
        ) AS timeout
      FROM pgflow.step_states AS s
      WHERE s.run_id = step.run_id
        AND s.step_slug = step.step_slug
        AND s.status || '' = 'started'
        AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started'
      OFFSET 0
    ) AS state
    CROSS JOIN LATERAL unnest(step.row_ids) AS b (row_id)
  ),
  started AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'started',
      attempts_count = t.attempts_count + 1,
      -- A task queued after this transaction began is claimed all the same.
      started_at = greatest(now(), t.queued_at),
      last_worker_id = p_worker_id
    FROM claimable AS c
    WHERE t.ctid = c.row_id
    RETURNING t.run_id, t.step_slug, t.task_index, t.attempts_count, t.message_id, c.timeout
  )
  SELECT
    array_agg(started.run_id) AS run_ids,
    array_agg(started.step_slug) AS step_slugs,
    array_agg(started.task_index) AS task_indexes,
    array_agg(started.attempts_count) AS attempts,
    array_agg(started.message_id) AS message_ids,
    -- The largest timeout that the column holds has no room for two seconds more.
    array_agg(least(started.timeout, 2147483645) + 2) AS seconds
  INTO claimed
  FROM started;

  IF claimed.run_ids IS NULL THEN
    RETURN;
  END IF;

  PERFORM pgflow._hide_messages(p_flow_slug, claimed.message_ids, claimed.seconds, p_reads);

  RETURN QUERY
  SELECT
    step.run_id,
    step.step_slug,
    task.task_index,
    task.attempt,
    task.message_id,
    step.kind,
    CASE WHEN step.kind = 'map' THEN step.input -> task.task_index ELSE step.input END,
    step.timeout,
    step.max_attempts,
    CASE WHEN task.attempt < step.max_attempts THEN pgflow.calculate_retry_delay(step.base_delay, task.attempt) END
  FROM (
    -- One row for each step, whose input is computed once for all its tasks; OFFSET 0 keeps it so. `||` detoasts an
    -- array here, and not again for every element taken from it.
    SELECT
      c.run_id,
      c.step_slug,
      c.task_indexes,
      c.attempts,
      c.message_ids,
      coalesce(definition.opt_timeout, f.opt_timeout) AS timeout,
      coalesce(definition.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
      coalesce(definition.opt_base_delay, f.opt_base_delay) AS base_delay,
      CASE
        WHEN definition.step_type = 'map' THEN 'map'
        WHEN definition.deps_count = 0 THEN 'root'
        ELSE 'dependent'
      END AS kind,
      CASE
        WHEN definition.step_type = 'map'
          THEN pgflow._map_elements(p_flow_slug, c.run_id, c.step_slug) || '[]'::jsonb
        WHEN definition.deps_count = 0 THEN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = c.run_id)
        ELSE pgflow._dependency_outputs(p_flow_slug, c.run_id, c.step_slug)
      END AS input
    FROM (
      SELECT
        b.run_id,
        b.step_slug,
        array_agg(b.task_index) AS task_indexes,
        array_agg(b.attempt) AS attempts,
        array_agg(b.message_id) AS message_ids
      FROM unnest(
        claimed.run_ids, claimed.step_slugs, claimed.task_indexes, claimed.attempts, claimed.message_ids
      ) AS b (run_id, step_slug, task_index, attempt, message_id)
      GROUP BY b.run_id, b.step_slug
    ) AS c
    JOIN pgflow.steps AS definition
      ON definition.flow_slug = p_flow_slug AND definition.step_slug = c.step_slug
    JOIN pgflow.flows AS f ON f.flow_slug = p_flow_slug
    OFFSET 0
  ) AS step
  CROSS JOIN LATERAL unnest(step.task_indexes, step.attempts, step.message_ids)
    AS task (task_index, attempt, message_id);
END
$$;
