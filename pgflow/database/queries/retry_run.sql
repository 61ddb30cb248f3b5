SELECT pgflow.retry_run(%(run_id)s::uuid, %(reason)s::text, %(requested_by)s::text) AS verdict
