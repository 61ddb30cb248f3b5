-- Tasks of a batch that are judged 'over': those that are still started in a run that has failed end with it. Their attempts
-- are in the history already, since the run failed.
CREATE FUNCTION pgflow._fail_late_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], error_messages text[], judgements text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.step_tasks AS t
  SET status = 'failed', failed_at = greatest(now(), t.queued_at, t.started_at), error_message = b.error_message
  FROM unnest(run_ids, step_slugs, task_indexes, error_messages, judgements)
    AS b (run_id, step_slug, task_index, error_message, judgement)
  CROSS JOIN LATERAL (
    SELECT k.ctid
    FROM pgflow.step_tasks AS k
    WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
    OFFSET 0
  ) AS k
  WHERE b.judgement = 'over'
    AND t.ctid = k.ctid
    AND t.status || '' = 'started'
    AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id) = 'failed';

  PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
  CROSS JOIN LATERAL (
    SELECT t.flow_slug, t.message_id
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t
  WHERE b.judgement = 'over';
END
$$;
