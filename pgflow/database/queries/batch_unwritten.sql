SELECT unwritten FROM pgflow._count_batch_items(%(batch_id)s)
