-- How many tasks of a run have completed with their error as the output, by step.
SELECT t.step_slug, count(*) AS recorded
FROM pgflow.runs AS r
JOIN pgflow.recording_steps AS k ON k.flow_slug = r.flow_slug
JOIN pgflow.step_tasks AS t ON t.run_id = r.run_id AND t.step_slug = k.step_slug
WHERE r.run_id = %(run_id)s::uuid AND t.status = 'completed' AND t.error_message IS NOT NULL AND t.output ? '$error'
GROUP BY t.step_slug
