SELECT
  CASE
    WHEN NOT EXISTS (SELECT FROM pgflow.runs AS r WHERE r.run_id = b.run_id)
      THEN (SELECT s.status FROM pgflow.start_flow(%(flow_slug)s, b.input, b.run_id) AS s)
  END AS status
FROM (
  SELECT * FROM unnest(%(inputs)s::jsonb[], %(run_ids)s::uuid[]) AS b (input, run_id)
  ORDER BY b.run_id
) AS b
