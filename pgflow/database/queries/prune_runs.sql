SELECT pruned, last_row::text AS last_row
FROM pgflow.prune_runs(make_interval(secs => %(older_than)s), %(limit)s, %(after)s::tid)
