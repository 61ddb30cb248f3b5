SELECT pgflow._compare_flow_shapes(%(shape)s::jsonb, pgflow._get_flow_shape(%(flow_slug)s)) AS differences
