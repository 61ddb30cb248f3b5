SELECT input::text AS input
FROM pgflow.runs
WHERE run_id = %(run_id)s
