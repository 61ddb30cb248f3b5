SELECT i.action, i.happened_at, i.requested_by, i.reason
FROM pgflow.run_interventions AS i
WHERE i.run_id = %(run_id)s::uuid
ORDER BY i.intervention_id
