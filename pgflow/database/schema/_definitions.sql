-- What the schema looks like: each column, constraint and index by its name, each function but for its body. For
-- verifying, and for telling at an upgrade which functions are ours.
CREATE FUNCTION pgflow._definitions()
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  WITH relation AS (
    SELECT c.oid, c.relname, c.relkind
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = 'pgflow'::regnamespace
  ),
  definition (name, text) AS (
    SELECT
      format('column pgflow.%s.%s', r.relname, a.attname),
      format(
        '%s%s %s',
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' NOT NULL' END,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid)
      )
    FROM relation AS r
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'c')
    UNION ALL
    SELECT format('constraint pgflow.%s.%s', r.relname, k.conname), pg_catalog.pg_get_constraintdef(k.oid)
    FROM relation AS r
    JOIN pg_catalog.pg_constraint AS k ON k.conrelid = r.oid
    WHERE k.contype <> 'n'  -- PostgreSQL 18 lists NOT NULL here too; it is part of the column
    UNION ALL
    SELECT format('index pgflow.%s', r.relname), pg_catalog.pg_get_indexdef(r.oid)
    FROM relation AS r
    WHERE r.relkind = 'i'
    UNION ALL
    (
      -- Of several functions with one name the oldest is ours.
      SELECT DISTINCT ON (p.proname)
        format('declaration of function pgflow.%s', p.proname),
        format(
          '(%s) RETURNS %s, volatility %s, security %s%s',
          pg_catalog.pg_get_function_arguments(p.oid),
          pg_catalog.pg_get_function_result(p.oid),
          p.provolatile,
          CASE WHEN p.prosecdef THEN 'definer' ELSE 'invoker' END,
          '; ' || pg_catalog.array_to_string(p.proconfig, ', ')
        )
      FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = 'pgflow'::regnamespace
      ORDER BY p.proname, p.oid
    )
  )
  SELECT jsonb_object_agg(definition.name, definition.text) FROM definition
$$;
