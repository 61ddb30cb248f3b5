SELECT pg_try_advisory_xact_lock(%(lock_key)s) AS is_locked
