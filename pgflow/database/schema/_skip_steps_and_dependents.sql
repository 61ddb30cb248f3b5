-- Skip steps and everything that depends on them, however far away, where it has not ended: the steps for the reason
-- given, the others as 'dependency_skipped'. Returns how many steps were skipped.
CREATE FUNCTION pgflow._skip_steps_and_dependents(run_ids uuid[], step_slugs text[], skip_reason text)
RETURNS int
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  WITH RECURSIVE affected (flow_slug, run_id, step_slug, is_given) AS (
    SELECT r.flow_slug, b.run_id, b.step_slug, true
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (SELECT r.flow_slug FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0) AS r
    UNION
    SELECT d.flow_slug, a.run_id, d.step_slug, false
    FROM affected AS a
    CROSS JOIN LATERAL (
      SELECT d.flow_slug, d.step_slug
      FROM pgflow.deps AS d
      WHERE d.flow_slug = a.flow_slug AND d.dep_slug = a.step_slug
      OFFSET 0
    ) AS d
  ),
  step AS (
    SELECT
      a.run_id,
      a.step_slug,
      CASE WHEN bool_or(a.is_given) THEN skip_reason ELSE 'dependency_skipped' END AS reason
    FROM affected AS a
    GROUP BY a.run_id, a.step_slug
  )
  SELECT pgflow._skip_steps(array_agg(step.run_id), array_agg(step.step_slug), array_agg(step.reason))
  FROM step
$$;
