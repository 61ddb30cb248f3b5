-- Tasks that have been handed back so often that they are left alone; their runs go on for ever.
SELECT t.flow_slug, t.run_id::text AS run_id, t.step_slug, t.task_index, t.permanently_stalled_at AS since
FROM pgflow.step_tasks AS t
JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
WHERE t.status = 'started' AND t.permanently_stalled_at IS NOT NULL
ORDER BY t.permanently_stalled_at, t.run_id, t.step_slug, t.task_index
