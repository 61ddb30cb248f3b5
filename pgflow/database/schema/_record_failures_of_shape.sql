-- Let those steps of a flow record failures whose options in the shape say so, and no others.
CREATE FUNCTION pgflow._record_failures_of_shape(p_flow_slug text, p_shape jsonb)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT pgflow.record_failures(
    p_flow_slug, e.step ->> 'slug', coalesce(e.step #> '{options,recordFailures}' = 'true', false)
  )
  FROM jsonb_array_elements(p_shape -> 'steps') AS e (step)
$$;
