SELECT pgflow.begin_batch_pass(
  %(batch_id)s, %(reference)s, %(kinds)s::text[], %(paths)s::text[], %(emptied)s::text[]
) AS pass
