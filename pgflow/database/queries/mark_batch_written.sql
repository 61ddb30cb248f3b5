SELECT pgflow.mark_batch_written(
  %(batch_id)s,
  %(pass)s,
  %(run_ids)s::uuid[],
  %(written)s::bit varying[],
  %(failed)s::bit varying[],
  %(kinds)s::text[],
  %(sizes)s::bigint[]
) AS is_ours
