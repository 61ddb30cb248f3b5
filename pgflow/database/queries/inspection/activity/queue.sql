-- Of one queue: visible and invisible messages, each counted up to a limit.
SELECT
  {flow} AS flow_slug,
  (SELECT count(*) FROM (SELECT FROM {queue} AS q WHERE q.vt <= now() LIMIT %(limit)s) AS q) AS visible,
  (SELECT count(*) FROM (SELECT FROM {queue} AS q WHERE q.vt > now() LIMIT %(limit)s) AS q) AS invisible
