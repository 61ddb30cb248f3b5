-- Start the tasks of messages that a worker has read. What cannot be started is left out. A single root step gets the
-- run's input as flow_input, every other task its own input.
CREATE FUNCTION pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
RETURNS SETOF pgflow.step_task_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
BEGIN
  RETURN QUERY
  SELECT
    start_tasks.flow_slug,
    t.run_id,
    t.step_slug,
    CASE WHEN t.kind = 'root' THEN '{}'::jsonb ELSE t.input END,
    t.msg_id,
    t.task_index,
    CASE WHEN t.kind = 'root' THEN t.input END
  FROM pgflow._start_tasks(start_tasks.flow_slug, start_tasks.msg_ids, start_tasks.worker_id, 0) AS t;
END
$$;
