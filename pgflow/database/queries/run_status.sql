SELECT status
FROM pgflow.runs
WHERE run_id = %(run_id)s::uuid
