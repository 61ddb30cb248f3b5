-- Five seconds are for what cannot be started: what is started gets its own visibility.
SELECT msg_id FROM pgmq.read(%(flow_slug)s, 5, %(quantity)s)
