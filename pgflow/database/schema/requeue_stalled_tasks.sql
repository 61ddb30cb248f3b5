-- Hand back the tasks whose worker has been silent for 30 seconds more than their timeout: to their queue, visible at
-- once, with the attempt spent; after three times the task is marked as permanently stalled and its message archived.
-- Returns how many went back. Tasks that somebody is working on at this moment are passed over. A run with a task that has
-- stalled for good goes on for ever, as the contract has it: `retry_run` queues the task again, `cancel_run` ends the run.
CREATE FUNCTION pgflow.requeue_stalled_tasks()
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  requeued record;
BEGIN
  WITH stalled AS (
    SELECT t.run_id, t.step_slug, t.task_index, t.started_at, t.last_worker_id
    FROM pgflow.step_tasks AS t
    JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = t.step_slug AND s.status = 'started'
    JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
    JOIN pgflow.steps AS definition ON definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
    JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
    WHERE t.status = 'started'
      AND t.permanently_stalled_at IS NULL
      AND t.started_at < now() - interval '30 seconds'  -- implied by the next line, but of use to the index
      AND t.started_at < now() - make_interval(secs => coalesce(definition.opt_timeout, f.opt_timeout)::double precision + 30)
    FOR UPDATE OF t SKIP LOCKED
  ),
  changed AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = CASE WHEN t.requeued_count < 3 THEN 'queued' ELSE t.status END,
      started_at = CASE WHEN t.requeued_count >= 3 THEN t.started_at END,
      last_worker_id = CASE WHEN t.requeued_count >= 3 THEN t.last_worker_id END,
      last_requeued_at = CASE WHEN t.requeued_count < 3 THEN now() ELSE t.last_requeued_at END,
      permanently_stalled_at = CASE WHEN t.requeued_count >= 3 THEN now() END,
      requeued_count = least(t.requeued_count + 1, 3)
    FROM stalled
    WHERE t.run_id = stalled.run_id AND t.step_slug = stalled.step_slug AND t.task_index = stalled.task_index
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.status, t.attempts_count,
      stalled.started_at, stalled.last_worker_id
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at
    )
    SELECT
      c.run_id, c.step_slug, c.task_index, c.attempts_count,
      CASE c.status WHEN 'queued' THEN 'requeued' ELSE 'stalled' END,
      c.last_worker_id, c.started_at, now()
    FROM changed AS c
  )
  SELECT
    array_agg(c.flow_slug) FILTER (WHERE c.status = 'queued') AS flow_slugs,
    array_agg(c.message_id) FILTER (WHERE c.status = 'queued') AS message_ids,
    array_agg(0) FILTER (WHERE c.status = 'queued') AS delays,
    array_agg(c.flow_slug) FILTER (WHERE c.status = 'started') AS stalled_flow_slugs,
    array_agg(c.message_id) FILTER (WHERE c.status = 'started') AS stalled_message_ids
  INTO requeued
  FROM changed AS c;

  PERFORM pgflow._delay_messages(requeued.flow_slugs, requeued.message_ids, requeued.delays);
  PERFORM pgflow._archive_messages(requeued.stalled_flow_slugs, requeued.stalled_message_ids);
  RETURN coalesce(cardinality(requeued.flow_slugs), 0);
END
$$;
