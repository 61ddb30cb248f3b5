-- The pattern in a shape's wrapper; NULL when it is absent or not defined.
CREATE FUNCTION pgflow._pattern_of_shape(p_wrapper jsonb)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN (p_wrapper ->> 'defined')::boolean THEN p_wrapper -> 'value' END
$$;
