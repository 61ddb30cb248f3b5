SELECT count(*) AS stalled
FROM pgflow.step_tasks AS t
JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
WHERE t.status = 'started' AND t.permanently_stalled_at IS NOT NULL
