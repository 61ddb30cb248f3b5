-- Which functions the schema has before an upgrade, and who may call them. Ours are those that were recorded when they were
-- installed; of several with one name, the one with those arguments. Others are somebody else's and stay as they are.
-- Version 1 recorded no functions: what has the name of one of ours is taken for it.
CREATE TEMPORARY TABLE pgflow_old_functions ON COMMIT DROP AS
SELECT
  p.oid,
  p.proname,
  p.proowner,
  p.proacl,
  p.prokind = 'f' AND CASE installed.version
    WHEN 1 THEN p.proname = '_table_definitions' OR p.proname IN (SELECT n.name FROM pgflow_new_functions AS n)
    ELSE recorded.declaration IS NOT NULL
      AND (
        starts_with(recorded.declaration, format('(%s) RETURNS ', pg_get_function_arguments(p.oid)))
        OR count(*) OVER (PARTITION BY p.proname) = 1
      )
  END AS is_ours
FROM pg_catalog.pg_proc AS p
CROSS JOIN (
  SELECT v.version, v.definitions FROM pgflow.schema_versions AS v ORDER BY v.version DESC LIMIT 1
) AS installed
CROSS JOIN LATERAL (
  SELECT installed.definitions ->> ('declaration of function pgflow.' || p.proname) AS declaration
) AS recorded
WHERE p.pronamespace = 'pgflow'::regnamespace;
