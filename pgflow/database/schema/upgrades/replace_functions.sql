-- Bring our functions to the new version, and leave everybody else's alone. A function whose arguments and result are the
-- same is replaced: what depends on it, views of somebody else's maybe, goes on, and so do the rights on it. One that
-- has changed otherwise is dropped and made anew, with the rights that were granted; one that is no more is dropped.
DO $replace$
DECLARE
  fresh record;
  former record;
BEGIN
  FOR fresh IN
    SELECT n.name, n.definition FROM pgflow_new_functions AS n ORDER BY n.place
  LOOP
    BEGIN
      EXECUTE fresh.definition;
    EXCEPTION WHEN invalid_function_definition THEN
      -- Its result is another one, or its arguments are called otherwise.
      FOR former IN
        SELECT o.oid::regprocedure AS signature FROM pgflow_old_functions AS o WHERE o.is_ours AND o.proname = fresh.name
      LOOP
        EXECUTE format('DROP FUNCTION %s', former.signature);
      END LOOP;
      EXECUTE fresh.definition;
    END;

    -- With arguments of other types it has become a second function beside the old one.
    FOR former IN
      SELECT p.oid::regprocedure AS signature
      FROM pgflow_old_functions AS o
      JOIN pg_catalog.pg_proc AS p ON p.oid = o.oid
      WHERE o.is_ours AND o.proname = fresh.name AND EXISTS (
        SELECT
        FROM pg_catalog.pg_proc AS made
        WHERE made.pronamespace = 'pgflow'::regnamespace
          AND made.proname = fresh.name
          AND made.oid NOT IN (SELECT any_old.oid FROM pgflow_old_functions AS any_old)
      )
    LOOP
      EXECUTE format('DROP FUNCTION %s', former.signature);
    END LOOP;
  END LOOP;

  FOR former IN
    SELECT o.oid::regprocedure AS signature
    FROM pgflow_old_functions AS o
    WHERE o.is_ours AND o.proname NOT IN (SELECT n.name FROM pgflow_new_functions AS n)
  LOOP
    EXECUTE format('DROP FUNCTION %s', former.signature);
  END LOOP;
END
$replace$;

-- Whoever upgrades owns all of them, as if they were new: functions of two owners might not call each other.
DO $rights$
DECLARE
  ours record;
  granted record;
BEGIN
  FOR ours IN
    SELECT p.oid::regprocedure AS signature, p.proname, old.oid IS NULL AS is_new
    FROM pg_catalog.pg_proc AS p
    LEFT JOIN pgflow_old_functions AS old ON old.oid = p.oid
    WHERE p.pronamespace = 'pgflow'::regnamespace
      AND p.proname IN (SELECT n.name FROM pgflow_new_functions AS n)
      AND coalesce(old.is_ours, true)
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO CURRENT_USER', ours.signature);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', ours.signature);
    FOR granted IN
      SELECT a.grantee::regrole AS role
      FROM pgflow_old_functions AS o
      CROSS JOIN LATERAL pg_catalog.aclexplode(o.proacl) AS a
      WHERE ours.is_new AND o.is_ours AND a.grantee <> o.proowner AND a.grantee <> 0
        AND (
          o.proname = ours.proname
          -- The contract's functions run with their caller's rights, and call internal ones that are new: who could call
          -- what claims or judges could call all of them.
          OR (
            o.proname IN ('_start_tasks', '_judge_tasks')
            AND starts_with(ours.proname, '_')
            AND NOT EXISTS (SELECT FROM pgflow_old_functions AS same WHERE same.proname = ours.proname)
          )
        )
    LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', ours.signature, granted.role);
    END LOOP;
  END LOOP;
END
$rights$;
