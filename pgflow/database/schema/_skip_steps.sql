-- Skip those of the steps that have not ended, and with them their tasks; their messages are archived. Dependents are
-- the caller's business. Returns how many steps were skipped.
CREATE FUNCTION pgflow._skip_steps(
  run_ids uuid[], step_slugs text[], skip_reasons text[], error_messages text[] DEFAULT NULL
)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  skipped record;
  ended record;
BEGIN
  PERFORM pgflow._lock_steps(run_ids, step_slugs);
  WITH skipped_step AS (
    UPDATE pgflow.step_states AS s
    SET
      status = 'skipped',
      skip_reason = b.skip_reason,
      skipped_at = greatest(now(), s.created_at),
      error_message = b.error_message,
      remaining_tasks = NULL
    FROM unnest(run_ids, step_slugs, skip_reasons, error_messages)
      AS b (run_id, step_slug, skip_reason, error_message)
    CROSS JOIN LATERAL (
      SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug OFFSET 0
    ) AS k
    WHERE s.ctid = k.ctid AND s.status IN ('created', 'started')
    RETURNING s.run_id, s.step_slug
  )
  SELECT array_agg(s.run_id) AS run_ids, array_agg(s.step_slug) AS step_slugs INTO skipped
  FROM skipped_step AS s;
  IF skipped.run_ids IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM pgflow._emit_step_events('skipped', skipped.run_ids, skipped.step_slugs);
  PERFORM pgflow._count_ended_steps(skipped.run_ids);

  PERFORM
  FROM (
    SELECT b.run_id, b.step_slug
    FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
    ORDER BY b.run_id, b.step_slug
  ) AS b
  CROSS JOIN LATERAL (
    SELECT
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.status IN ('queued', 'started')
    ORDER BY t.task_index
    FOR UPDATE
  ) AS locked;

  PERFORM pgflow._record_cancelled_attempts(
    array_agg(t.run_id), array_agg(t.step_slug), array_agg(t.task_index)
  )
  FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
  CROSS JOIN LATERAL (
    SELECT t.run_id, t.step_slug, t.task_index
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.status = 'started'
    OFFSET 0
  ) AS t
  HAVING count(*) > 0;

  WITH skipped_task AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'skipped'
    FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.status IN ('queued', 'started')
      OFFSET 0
    ) AS k
    WHERE t.ctid = k.ctid
    RETURNING t.flow_slug, t.message_id
  )
  SELECT array_agg(t.flow_slug) AS flow_slugs, array_agg(t.message_id) AS message_ids INTO ended
  FROM skipped_task AS t;
  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);

  RETURN cardinality(skipped.run_ids);
END
$$;
