SELECT pgflow._has_realtime() AS has_realtime
