SELECT pgflow.prune_workers(make_interval(secs => %(older_than)s), %(limit)s) AS pruned
