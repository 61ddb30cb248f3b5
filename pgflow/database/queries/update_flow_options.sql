SELECT pgflow.update_flow_options(%(flow_slug)s, %(shape)s::jsonb) AS changes
