SELECT r.run_id::text AS run_id, r.flow_slug, r.status
FROM pgflow.runs AS r
WHERE r.run_id BETWEEN %(first)s::uuid AND %(last)s::uuid
ORDER BY r.run_id
LIMIT %(limit)s
