-- Start the ready steps of running runs: a message and a task row for every task, the message ids ascending with the
-- task index. One statement for each flow and start delay among them.
CREATE FUNCTION pgflow._start_ready_steps(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET enable_hashjoin TO on
AS $$
DECLARE
  batch record;
BEGIN
  PERFORM
  FROM pgflow.step_states AS s
  WHERE s.run_id = ANY(_start_ready_steps.run_ids)
    AND s.status = 'created'
    AND s.remaining_deps = 0
    AND s.initial_tasks > 0
  ORDER BY s.run_id, s.step_slug
  FOR UPDATE;

  FOR batch IN
    WITH started AS (
      UPDATE pgflow.step_states AS s
      SET status = 'started', started_at = greatest(now(), s.created_at), remaining_tasks = s.initial_tasks
      WHERE s.run_id = ANY(_start_ready_steps.run_ids)
        AND s.status = 'created'
        AND s.remaining_deps = 0
        AND s.initial_tasks > 0
        AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started'
      RETURNING s.flow_slug, s.run_id, s.step_slug, s.initial_tasks
    )
    SELECT
      started.flow_slug,
      coalesce(definition.opt_start_delay, 0) AS delay,
      array_agg(started.run_id ORDER BY started.run_id, started.step_slug) AS run_ids,
      array_agg(started.step_slug ORDER BY started.run_id, started.step_slug) AS step_slugs,
      array_agg(started.initial_tasks ORDER BY started.run_id, started.step_slug) AS task_counts
    FROM started
    JOIN pgflow.steps AS definition
      ON definition.flow_slug = started.flow_slug AND definition.step_slug = started.step_slug
    GROUP BY started.flow_slug, coalesce(definition.opt_start_delay, 0)
    ORDER BY started.flow_slug, coalesce(definition.opt_start_delay, 0)
  LOOP
    PERFORM pgflow._emit_step_events('started', batch.run_ids, batch.step_slugs);

    WITH task AS (
      SELECT
        s.run_id,
        s.step_slug,
        i.task_index,
        row_number() OVER (ORDER BY s.position, i.task_index) AS position
      FROM unnest(batch.run_ids, batch.step_slugs, batch.task_counts)
        WITH ORDINALITY AS s (run_id, step_slug, task_count, position)
      CROSS JOIN LATERAL generate_series(0, s.task_count - 1) AS i (task_index)
    ),
    message AS (
      SELECT m.msg_id, m.position
      FROM pgmq.send_batch(
        batch.flow_slug,
        (
          SELECT array_agg(
            jsonb_build_object(
              'flow_slug', batch.flow_slug,
              'run_id', task.run_id,
              'step_slug', task.step_slug,
              'task_index', task.task_index
            )
            ORDER BY task.position
          )
          FROM task
        ),
        batch.delay
      ) WITH ORDINALITY AS m (msg_id, position)
    )
    INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id)
    SELECT batch.flow_slug, task.run_id, task.step_slug, task.task_index, message.msg_id
    FROM task
    JOIN message ON message.position = task.position;
    PERFORM pgflow._wake_workers(ARRAY[batch.flow_slug]);
  END LOOP;
END
$$;
