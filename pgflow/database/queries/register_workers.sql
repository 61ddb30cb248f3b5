WITH registered AS (
  INSERT INTO pgflow.workers (worker_id, queue_name, function_name)
  SELECT worker_id, flow_slug, %(name)s
  FROM unnest(%(worker_ids)s::uuid[], %(flow_slugs)s::text[]) AS w (worker_id, flow_slug)
)
INSERT INTO pgflow.worker_processes (worker_id, host, scope, pid, started)
SELECT worker_id, %(host)s, %(scope)s, %(pid)s, %(started)s
FROM unnest(%(worker_ids)s::uuid[]) AS w (worker_id)
