SELECT pgflow.prune_archives(make_interval(secs => %(older_than)s), %(limit)s) AS pruned
