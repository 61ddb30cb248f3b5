-- Drop all functions but the one that the tables' constraints need; who may call them is kept for grant_again.
CREATE TEMPORARY TABLE pgflow_grants ON COMMIT DROP AS
SELECT p.proname, a.grantee::regrole::text AS grantee
FROM pg_catalog.pg_proc AS p
CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
WHERE p.pronamespace = 'pgflow'::regnamespace AND a.grantee <> p.proowner AND a.grantee <> 0;

DO $drop$
DECLARE
  dropped record;
BEGIN
  FOR dropped IN
    SELECT p.oid::regprocedure AS signature
    FROM pg_catalog.pg_proc AS p
    WHERE p.pronamespace = 'pgflow'::regnamespace AND p.proname <> 'is_valid_slug'
  LOOP
    EXECUTE format('DROP FUNCTION %s', dropped.signature);
  END LOOP;
END
$drop$;
