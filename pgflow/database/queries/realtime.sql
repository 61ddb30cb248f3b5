-- Supabase's realtime, where it is there: whom realtime.send belongs to, whether pgflow's owner may call it, and whether this
-- role may ask our SQL core if it does. By the catalogue: a role that may not use the schema must not be refused for looking.
SELECT
  sender.rolname AS sender,
  owner.rolname AS owner,
  has_schema_privilege(owner.oid, realtime.oid, 'USAGE') AND has_function_privilege(owner.oid, p.oid, 'EXECUTE') AS may_call,
  EXISTS (
    SELECT
    FROM pg_catalog.pg_proc AS asked
    WHERE asked.pronamespace = n.oid AND asked.proname = '_has_realtime' AND has_function_privilege(asked.oid, 'EXECUTE')
  ) AS may_ask
FROM pg_catalog.pg_namespace AS realtime
JOIN pg_catalog.pg_proc AS p ON p.pronamespace = realtime.oid
JOIN pg_catalog.pg_roles AS sender ON sender.oid = p.proowner
JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'pgflow'
JOIN pg_catalog.pg_roles AS owner ON owner.oid = n.nspowner
WHERE realtime.nspname = 'realtime'
  AND p.proname = 'send'
  AND oidvectortypes(p.proargtypes) = 'jsonb, text, text, boolean'
