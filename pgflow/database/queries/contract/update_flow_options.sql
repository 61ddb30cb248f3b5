WITH flow AS (
  UPDATE pgflow.flows AS f
  SET
    opt_max_attempts = coalesce((%(shape)s::jsonb #>> '{options,maxAttempts}')::int, 3),
    opt_base_delay = coalesce((%(shape)s::jsonb #>> '{options,baseDelay}')::int, 5),
    opt_timeout = coalesce((%(shape)s::jsonb #>> '{options,timeout}')::int, 60)
  WHERE f.flow_slug = %(flow_slug)s
)
UPDATE pgflow.steps AS s
SET
  opt_max_attempts = (e.step #>> '{options,maxAttempts}')::int,
  opt_base_delay = (e.step #>> '{options,baseDelay}')::int,
  opt_timeout = (e.step #>> '{options,timeout}')::int,
  opt_start_delay = (e.step #>> '{options,startDelay}')::int
FROM jsonb_array_elements(%(shape)s::jsonb -> 'steps') AS e (step)
WHERE s.flow_slug = %(flow_slug)s AND s.step_slug = e.step ->> 'slug'
