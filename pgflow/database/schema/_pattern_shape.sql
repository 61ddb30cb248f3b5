-- A condition's pattern as shapes write it.
CREATE FUNCTION pgflow._pattern_shape(p_pattern jsonb)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN p_pattern IS NULL THEN '{"defined": false}'::jsonb
    ELSE jsonb_build_object('defined', true, 'value', p_pattern)
  END
$$;
