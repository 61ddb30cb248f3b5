-- In the order of keys, before anything else: the contract's functions lock the run first, too.
SELECT FROM pgflow.runs WHERE run_id = ANY(%(run_ids)s::uuid[]) ORDER BY run_id FOR UPDATE
