SELECT count(*) AS runs FROM pgflow.runs AS r WHERE r.flow_slug = %(flow_slug)s AND r.status = 'started'
