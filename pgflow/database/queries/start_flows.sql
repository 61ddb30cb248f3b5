SELECT run_id::text AS run_id
FROM pgflow.start_flows(%(flow_slug)s, %(inputs)s::jsonb[], %(keys)s::text[])
ORDER BY ordinal
