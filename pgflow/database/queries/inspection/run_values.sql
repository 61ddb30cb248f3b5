-- A run's input and output, as much of them as is wanted.
SELECT
  v.name,
  octet_length(v.text) AS bytes,
  length(v.text) AS characters,
  left(v.text, %(characters)s) AS text
FROM pgflow.runs AS r
CROSS JOIN LATERAL (VALUES ('input', r.input::text), ('output', r.output::text)) AS v (name, text)
WHERE r.run_id = %(run_id)s::uuid
