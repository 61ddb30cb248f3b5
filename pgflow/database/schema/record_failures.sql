-- Ours: let the tasks of a step complete with {"$error": ...} as their output once their attempts are spent, so that one
-- bad element does not end a map and its dependents see which elements failed; or let it be as when_exhausted says.
CREATE FUNCTION pgflow.record_failures(flow_slug text, step_slug text, is_on boolean DEFAULT true)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF is_on THEN
    INSERT INTO pgflow.recording_steps (flow_slug, step_slug)
    VALUES (record_failures.flow_slug, record_failures.step_slug)
    ON CONFLICT ON CONSTRAINT recording_steps_pkey DO NOTHING;
  ELSE
    DELETE FROM pgflow.recording_steps AS r
    WHERE r.flow_slug = record_failures.flow_slug AND r.step_slug = record_failures.step_slug;
  END IF;
END
$$;
