SELECT run_id::text AS run_id
FROM pgflow.start_flow(%(flow_slug)s, %(input)s::jsonb)
