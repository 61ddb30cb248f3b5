-- One worker at a time is enough.
SELECT CASE WHEN pg_try_advisory_xact_lock(%(lock_key)s) THEN pgflow.requeue_stalled_tasks() ELSE 0 END AS requeued
