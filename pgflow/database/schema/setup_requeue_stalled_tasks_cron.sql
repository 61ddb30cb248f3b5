-- Let pg_cron call requeue_stalled_tasks: one job, however often this is called.
CREATE FUNCTION pgflow.setup_requeue_stalled_tasks_cron(cron_interval text DEFAULT '15 seconds')
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  job_id bigint;
BEGIN
  IF to_regnamespace('cron') IS NULL THEN
    RAISE EXCEPTION 'pg_cron is not installed in this database'
      USING HINT = 'Call pgflow.requeue_stalled_tasks() every 15 seconds by other means.';
  END IF;
  -- Dynamic, because pgflow is installed without pg_cron, and with literals, because the type of a job's name differs
  -- between its versions.
  BEGIN
    EXECUTE format('SELECT cron.unschedule(%L)', 'pgflow_requeue_stalled_tasks');
  EXCEPTION WHEN OTHERS THEN
    NULL;  -- there is no such job
  END;
  EXECUTE format(
    'SELECT cron.schedule(%L, %L, %L)',
    'pgflow_requeue_stalled_tasks', cron_interval, 'select pgflow.requeue_stalled_tasks()'
  ) INTO job_id;
  RETURN format('Scheduled pgflow_requeue_stalled_tasks (every %s, job_id=%s)', cron_interval, job_id);
END
$$;
