-- Whether this is a developer's Supabase, known by its published secret: there, changed flows are recompiled.
CREATE FUNCTION pgflow.is_local()
RETURNS boolean
LANGUAGE sql
STABLE
PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT coalesce(
    current_setting('app.settings.jwt_secret', true)
      = 'super-secret-jwt-token-with-at-least-32-characters-long',
    false
  )
$$;
