SELECT items, batches FROM pgflow.prune_batches(make_interval(secs => %(older_than)s), %(limit)s)
