SELECT
  CASE
    WHEN EXISTS (SELECT FROM pgflow.flows AS f WHERE f.flow_slug = %(flow_slug)s)
      THEN pgflow._compare_flow_shapes(%(shape)s::jsonb, pgflow._get_flow_shape(%(flow_slug)s))
    ELSE ARRAY['it is not in the database: `pgflow compile` defines it']
  END AS differences
