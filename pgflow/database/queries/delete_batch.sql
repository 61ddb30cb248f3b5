SELECT pgflow.delete_batch(%(name)s)
