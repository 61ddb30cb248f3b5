-- Give the rights back that were granted on functions which are still there.
DO $grant$
DECLARE
  granted record;
BEGIN
  FOR granted IN
    SELECT g.proname, g.grantee
    FROM pgflow_grants AS g
    WHERE EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'pgflow'::regnamespace AND p.proname = g.proname
    )
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION pgflow.%I TO %s', granted.proname, granted.grantee);
  END LOOP;
END
$grant$;
