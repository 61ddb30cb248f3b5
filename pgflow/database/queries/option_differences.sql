SELECT pgflow._option_differences(%(flow_slug)s, %(shape)s::jsonb) AS differences
