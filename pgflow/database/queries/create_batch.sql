SELECT pgflow.create_batch(
  %(name)s, %(flow_slug)s, %(target)s, %(reference)s, %(kinds)s::text[], %(paths)s::text[]
) AS batch_id
