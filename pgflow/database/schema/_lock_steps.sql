-- Lock step states in the order of their keys. A statement of its own, so that the one which then changes them sees what
-- whoever was there before has left: by ctid alone, a row that changed meanwhile would be passed over.
CREATE FUNCTION pgflow._lock_steps(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM
  FROM (
    SELECT DISTINCT b.run_id, b.step_slug
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    ORDER BY b.run_id, b.step_slug
  ) AS b
  CROSS JOIN LATERAL (
    SELECT FROM pgflow.step_states AS s WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug FOR UPDATE
  ) AS locked;
END
$$;
