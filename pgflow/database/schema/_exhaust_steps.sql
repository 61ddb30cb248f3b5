-- Steps have a task without attempts left: as their when_exhausted says, they fail with their run, are skipped, or are
-- skipped with everything that depends on them. The steps come in the order of the batch: the first one that fails its
-- run counts, and nothing is skipped in a run that fails.
CREATE FUNCTION pgflow._exhaust_steps(run_ids uuid[], step_slugs text[], error_messages text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  failing record;
  skipping record;
BEGIN
  SELECT
    array_agg(f.run_id) AS run_ids,
    array_agg(f.step_slug) AS step_slugs,
    array_agg(f.error_message) AS error_messages
  INTO failing
  FROM (
    SELECT DISTINCT ON (b.run_id) b.run_id, b.step_slug, b.error_message
    FROM unnest(run_ids, step_slugs, error_messages)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, position)
    CROSS JOIN LATERAL (
      SELECT r.flow_slug, r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT definition.when_exhausted
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = r.flow_slug AND definition.step_slug = b.step_slug
      OFFSET 0
    ) AS definition
    WHERE definition.when_exhausted = 'fail' AND r.status = 'started'
    ORDER BY b.run_id, b.position
  ) AS f;
  IF failing.run_ids IS NOT NULL THEN
    PERFORM pgflow._fail_steps(failing.run_ids, failing.step_slugs, failing.error_messages);
  END IF;

  SELECT
    array_agg(s.run_id) AS run_ids,
    array_agg(s.step_slug) AS step_slugs,
    array_agg(s.error_message) AS error_messages,
    array_agg('handler_failed'::text) AS reasons,
    array_agg(s.when_exhausted) AS modes
  INTO skipping
  FROM (
    SELECT DISTINCT ON (b.run_id, b.step_slug) b.run_id, b.step_slug, b.error_message, definition.when_exhausted
    FROM unnest(run_ids, step_slugs, error_messages)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, position)
    CROSS JOIN LATERAL (
      SELECT r.flow_slug, r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT definition.when_exhausted
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = r.flow_slug AND definition.step_slug = b.step_slug
      OFFSET 0
    ) AS definition
    WHERE r.status = 'started'
    ORDER BY b.run_id, b.step_slug, b.position
  ) AS s;
  IF skipping.run_ids IS NULL THEN
    RETURN;
  END IF;
  PERFORM pgflow._skip_steps(skipping.run_ids, skipping.step_slugs, skipping.reasons, skipping.error_messages);

  PERFORM pgflow._release_dependents(array_agg(s.run_id), array_agg(s.step_slug))
  FROM unnest(skipping.run_ids, skipping.step_slugs, skipping.modes) AS s (run_id, step_slug, mode)
  WHERE s.mode = 'skip';

  PERFORM pgflow._skip_steps_and_dependents(array_agg(s.run_id), array_agg(s.step_slug), 'handler_failed')
  FROM unnest(skipping.run_ids, skipping.step_slugs, skipping.modes) AS s (run_id, step_slug, mode)
  WHERE s.mode = 'skip-cascade';

  PERFORM pgflow._advance_runs(skipping.run_ids);
END
$$;
