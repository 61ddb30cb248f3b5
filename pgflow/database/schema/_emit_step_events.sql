-- Tell of steps that have just become `kind`: started, completed, failed or skipped; parents before their dependents.
-- `without_tasks` is for those that complete without a worker.
CREATE FUNCTION pgflow._emit_step_events(
  kind text, run_ids uuid[], step_slugs text[], without_tasks boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT pgflow._emits_events() THEN
    RETURN;
  END IF;

  PERFORM pgflow._send_events(
    array_agg(e.run_id ORDER BY e.run_id, e.step_index),
    array_agg('step:' || e.step_slug || ':' || kind ORDER BY e.run_id, e.step_index),
    array_agg(e.payload ORDER BY e.run_id, e.step_index)
  )
  FROM (
    SELECT
      s.run_id,
      s.step_slug,
      s.step_index,
      jsonb_build_object(
        'event_type', 'step:' || kind, 'run_id', s.run_id, 'step_slug', s.step_slug, 'status', s.status
      )
      || CASE kind
        WHEN 'started' THEN
          jsonb_build_object(
            'started_at', s.started_at, 'remaining_tasks', s.remaining_tasks, 'remaining_deps', s.remaining_deps
          )
        WHEN 'completed' THEN jsonb_build_object('output', s.output, 'completed_at', s.completed_at)
        WHEN 'failed' THEN jsonb_build_object('error_message', s.error_message, 'failed_at', s.failed_at)
        WHEN 'skipped' THEN jsonb_build_object('skip_reason', s.skip_reason, 'skipped_at', s.skipped_at)
      END
      || CASE
        WHEN without_tasks THEN
          jsonb_build_object('started_at', s.started_at, 'remaining_tasks', 0, 'remaining_deps', 0)
        WHEN kind = 'skipped' AND s.error_message IS NULL THEN jsonb_build_object('flow_slug', s.flow_slug)
        WHEN kind = 'skipped' THEN jsonb_build_object('error_message', s.error_message)
        ELSE '{}'
      END AS payload
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (
      SELECT
        s.*,
        (
          SELECT definition.step_index
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        ) AS step_index
      FROM pgflow.step_states AS s
      WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug
      OFFSET 0
    ) AS s
  ) AS e
  HAVING count(*) > 0;
END
$$;
