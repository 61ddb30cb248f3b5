SELECT
  c.result ->> 'status' AS status,
  ARRAY(SELECT jsonb_array_elements_text(c.result -> 'differences')) AS differences
FROM (
  SELECT pgflow.ensure_flow_compiled(%(flow_slug)s, %(shape)s::jsonb, %(allow_data_loss)s) AS result
  OFFSET 0
) AS c
