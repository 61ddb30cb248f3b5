-- What the schema's tables and types look like: each column, constraint and index by its name. For verifying.
CREATE FUNCTION pgflow._table_definitions()
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path TO ''
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
  )
  SELECT jsonb_object_agg(definition.name, definition.text) FROM definition
$$;
