-- Ours: bring the options of a flow and its steps up to those of a shape, which the contract leaves as they were when the
-- flow was created. Returns what changed, in words. An option that the shape does not name gets its default.
CREATE FUNCTION pgflow.update_flow_options(flow_slug text, shape jsonb)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  changes text[];
BEGIN
  PERFORM pg_advisory_xact_lock(1, hashtext(update_flow_options.flow_slug));

  SELECT array_agg(
    format(
      '%s%s: %s -> %s',
      'step ' || o.step_slug || ': ', o.name, coalesce(o.present, o.fallback), coalesce(o.wanted, o.fallback)
    )
    ORDER BY o.step_index, o.position
  )
  INTO changes
  FROM (
    SELECT NULL AS step_slug, -1 AS step_index, v.*, NULL AS fallback
    FROM pgflow.flows AS f
    CROSS JOIN LATERAL (
      VALUES
        (1, 'max_attempts', f.opt_max_attempts::text, coalesce(shape #>> '{options,maxAttempts}', '3')),
        (2, 'base_delay', f.opt_base_delay::text, coalesce(shape #>> '{options,baseDelay}', '5')),
        (3, 'timeout', f.opt_timeout::text, coalesce(shape #>> '{options,timeout}', '60'))
    ) AS v (position, name, present, wanted)
    WHERE f.flow_slug = update_flow_options.flow_slug
    UNION ALL
    SELECT s.step_slug, s.step_index, v.*
    FROM jsonb_array_elements(shape -> 'steps') AS e (step)
    JOIN pgflow.steps AS s ON s.flow_slug = update_flow_options.flow_slug AND s.step_slug = e.step ->> 'slug'
    CROSS JOIN LATERAL (
      VALUES
        (1, 'max_attempts', s.opt_max_attempts::text, e.step #>> '{options,maxAttempts}', 'the flow''s'),
        (2, 'base_delay', s.opt_base_delay::text, e.step #>> '{options,baseDelay}', 'the flow''s'),
        (3, 'timeout', s.opt_timeout::text, e.step #>> '{options,timeout}', 'the flow''s'),
        (4, 'start_delay', s.opt_start_delay::text, e.step #>> '{options,startDelay}', 'none'),
        (
          5,
          'when_exhausted',
          (
            SELECT 'record' FROM pgflow.recording_steps AS r
            WHERE r.flow_slug = s.flow_slug AND r.step_slug = s.step_slug
          ),
          CASE WHEN (e.step #> '{options,recordFailures}') = 'true' THEN 'record' END,
          s.when_exhausted
        )
    ) AS v (position, name, present, wanted, fallback)
  ) AS o
  WHERE o.present IS DISTINCT FROM o.wanted;

  IF changes IS NULL THEN
    RETURN '{}';
  END IF;

  UPDATE pgflow.flows AS f
  SET
    opt_max_attempts = coalesce((shape #>> '{options,maxAttempts}')::int, 3),
    opt_base_delay = coalesce((shape #>> '{options,baseDelay}')::int, 5),
    opt_timeout = coalesce((shape #>> '{options,timeout}')::int, 60)
  WHERE f.flow_slug = update_flow_options.flow_slug;

  UPDATE pgflow.steps AS s
  SET
    opt_max_attempts = (e.step #>> '{options,maxAttempts}')::int,
    opt_base_delay = (e.step #>> '{options,baseDelay}')::int,
    opt_timeout = (e.step #>> '{options,timeout}')::int,
    opt_start_delay = (e.step #>> '{options,startDelay}')::int
  FROM jsonb_array_elements(shape -> 'steps') AS e (step)
  WHERE s.flow_slug = update_flow_options.flow_slug AND s.step_slug = e.step ->> 'slug';

  PERFORM pgflow._record_failures_of_shape(update_flow_options.flow_slug, shape);
  RETURN changes;
END
$$;
