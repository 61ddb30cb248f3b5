-- Who opens a batch of this name is alone with that until its transaction ends.
SELECT pg_advisory_xact_lock(5, hashtext(%(name)s))
