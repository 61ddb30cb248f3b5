-- Whether events go to Supabase's realtime. It is called with the rights of pgflow's owner, whoever starts a run, so it has
-- to belong to somebody who could act as the owner anyway: else who may create a schema `realtime` could become that. One
-- that the owner may not call is none.
CREATE FUNCTION pgflow._has_realtime()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  -- Mostly there is none, and this is asked whenever a step ends.
  IF to_regnamespace('realtime') IS NULL THEN
    RETURN false;
  END IF;
  RETURN EXISTS (
    SELECT
    FROM pg_namespace AS realtime
    JOIN pg_proc AS p ON p.pronamespace = realtime.oid
    JOIN pg_roles AS sender ON sender.oid = p.proowner
    JOIN pg_namespace AS n ON n.nspname = 'pgflow'
    JOIN pg_roles AS owner ON owner.oid = n.nspowner
    WHERE realtime.nspname = 'realtime'
      AND p.proname = 'send'
      AND oidvectortypes(p.proargtypes) = 'jsonb, text, text, boolean'
      AND has_schema_privilege(realtime.oid, 'USAGE')
      AND has_function_privilege(p.oid, 'EXECUTE')
      AND (
        sender.rolsuper
        OR sender.oid = owner.oid
        -- A superuser counts as a member of every role.
        OR (NOT owner.rolsuper AND pg_has_role(owner.oid, sender.oid, 'MEMBER'))
        OR sender.rolname IN ('supabase_admin', 'supabase_realtime_admin')
      )
  );
END
$$;
