SELECT verdict, added, items, unwritten
FROM pgflow.add_batch_items(
  %(batch_id)s, %(pass)s, %(chunk)s, %(keys)s::bytea, %(items)s::jsonb, %(item_indexes)s::bigint[]
)
