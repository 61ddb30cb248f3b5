-- Ours: bring the options of a flow and its steps up to those of a shape, which the contract leaves as they were when the
-- flow was created. Returns what changed, in words.
CREATE FUNCTION pgflow.update_flow_options(flow_slug text, shape jsonb)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  changes text[];
BEGIN
  IF jsonb_typeof(shape -> 'steps') IS DISTINCT FROM 'array' THEN
    RAISE EXCEPTION 'update_flow_options(): the shape of flow % has no array of steps: %', flow_slug, shape;
  END IF;
  PERFORM pg_advisory_xact_lock(1, hashtext(update_flow_options.flow_slug));
  IF NOT EXISTS (SELECT FROM pgflow.flows AS f WHERE f.flow_slug = update_flow_options.flow_slug) THEN
    RAISE EXCEPTION 'update_flow_options(): there is no flow %', flow_slug;
  END IF;

  changes := pgflow._option_differences(flow_slug, shape);
  IF changes = '{}' THEN
    RETURN changes;
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
