-- The flows whose queues hold something, as far as PostgreSQL's counters know, and then the newest. `removed` counts the
-- messages that have ever left the queue, archived or deleted.
SELECT
  f.flow_slug,
  coalesce(
    has_schema_privilege('pgmq', 'USAGE') AND has_table_privilege(q.oid, 'SELECT') AND has_table_privilege(a.oid, 'SELECT'),
    false
  ) AS is_readable,
  coalesce(pg_stat_get_tuples_deleted(q.oid), 0) AS removed
FROM pgflow.flows AS f
LEFT JOIN pg_catalog.pg_class AS q
  ON q.relname = 'q_' || lower(f.flow_slug) AND q.relnamespace = 'pgmq'::regnamespace
LEFT JOIN pg_catalog.pg_class AS a
  ON a.relname = 'a_' || lower(f.flow_slug) AND a.relnamespace = 'pgmq'::regnamespace
WHERE %(flow_slugs)s::text[] IS NULL OR f.flow_slug = ANY(%(flow_slugs)s::text[])
ORDER BY coalesce(pg_stat_get_live_tuples(q.oid), 0) > 0 DESC, f.created_at DESC, f.flow_slug
LIMIT %(limit)s
