SELECT verdict, added, items, unwritten
FROM pgflow.retry_batch_failures(%(batch_id)s, %(pass)s, %(chunk)s, %(limit)s)
