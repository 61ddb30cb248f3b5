-- Whether a text may name a flow or a step.
CREATE FUNCTION pgflow.is_valid_slug(slug text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT slug IS NOT NULL
    AND length(slug) BETWEEN 1 AND 128
    AND slug ~ '^[a-zA-Z_][a-zA-Z0-9_]*$'
    AND slug <> 'run'
$$;
