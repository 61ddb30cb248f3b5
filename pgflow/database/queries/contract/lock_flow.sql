-- As ensure_flow_compiled does.
SELECT pg_advisory_xact_lock(1, hashtext(%(flow_slug)s))
