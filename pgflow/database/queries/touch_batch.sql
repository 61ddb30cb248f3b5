SELECT pgflow.touch_batch(%(batch_id)s, %(pass)s) AS is_ours
