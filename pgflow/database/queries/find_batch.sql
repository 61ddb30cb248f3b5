SELECT
  b.batch_id,
  b.name,
  b.flow_slug,
  b.target,
  b.reference,
  b.pass,
  b.items,
  coalesce((SELECT sum(r.unwritten) FROM pgflow.batch_runs AS r WHERE r.batch_id = b.batch_id AND r.unwritten > 0), 0)::bigint
    AS unwritten,
  coalesce((SELECT sum(bit_count(r.failed & r.written)) FROM pgflow.batch_runs AS r WHERE r.batch_id = b.batch_id AND r.failures > 0), 0)::bigint
    AS failures,
  ARRAY(SELECT f.kind FROM pgflow.batch_files AS f WHERE f.batch_id = b.batch_id ORDER BY f.kind) AS kinds,
  ARRAY(SELECT f.path FROM pgflow.batch_files AS f WHERE f.batch_id = b.batch_id ORDER BY f.kind) AS paths,
  ARRAY(SELECT f.size FROM pgflow.batch_files AS f WHERE f.batch_id = b.batch_id ORDER BY f.kind) AS sizes
FROM pgflow.batches AS b
WHERE b.name = %(name)s
