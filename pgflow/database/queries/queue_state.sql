-- Of one queue: visible and invisible messages, and the seconds since the oldest visible one became visible.
SELECT
  count(*) FILTER (WHERE q.vt <= clock_timestamp()) AS visible,
  count(*) FILTER (WHERE q.vt > clock_timestamp()) AS invisible,
  extract(epoch FROM clock_timestamp() - min(q.vt))::float AS oldest
FROM {queue} AS q
