-- Append a step to a flow. An existing step is returned as it is, and so are its dependencies.
CREATE FUNCTION pgflow.add_step(
  flow_slug text,
  step_slug text,
  deps_slugs text[] DEFAULT '{}',
  max_attempts int DEFAULT NULL,
  base_delay int DEFAULT NULL,
  timeout int DEFAULT NULL,
  start_delay int DEFAULT NULL,
  step_type text DEFAULT 'single',
  required_input_pattern jsonb DEFAULT NULL,
  forbidden_input_pattern jsonb DEFAULT NULL,
  when_unmet text DEFAULT 'skip',
  when_exhausted text DEFAULT 'fail'
)
RETURNS pgflow.steps
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  step pgflow.steps;
  dep_slugs CONSTANT text[] := ARRAY(SELECT DISTINCT d.slug FROM unnest(add_step.deps_slugs) AS d (slug));
BEGIN
  IF add_step.step_type = 'map' AND cardinality(dep_slugs) > 1 THEN
    RAISE EXCEPTION 'Map step "%" can have at most one dependency, but % were provided: %',
      add_step.step_slug, cardinality(add_step.deps_slugs), array_to_string(add_step.deps_slugs, ', ');
  END IF;

  -- One step at a time gets the flow's next index.
  PERFORM FROM pgflow.flows AS f WHERE f.flow_slug = add_step.flow_slug FOR NO KEY UPDATE;

  INSERT INTO pgflow.steps (
    flow_slug, step_slug, step_type, step_index, deps_count,
    opt_max_attempts, opt_base_delay, opt_timeout, opt_start_delay,
    required_input_pattern, forbidden_input_pattern, when_unmet, when_exhausted
  )
  SELECT
    add_step.flow_slug,
    add_step.step_slug,
    coalesce(add_step.step_type, 'single'),
    coalesce((SELECT max(s.step_index) + 1 FROM pgflow.steps AS s WHERE s.flow_slug = add_step.flow_slug), 0),
    cardinality(dep_slugs),
    add_step.max_attempts, add_step.base_delay, add_step.timeout, add_step.start_delay,
    add_step.required_input_pattern, add_step.forbidden_input_pattern,
    add_step.when_unmet, add_step.when_exhausted
  ON CONFLICT ON CONSTRAINT steps_pkey DO NOTHING;

  -- Only for a new step: dependencies added to an existing one would disagree with its deps_count.
  IF FOUND THEN
    INSERT INTO pgflow.deps (flow_slug, dep_slug, step_slug)
    SELECT add_step.flow_slug, d.slug, add_step.step_slug
    FROM unnest(dep_slugs) AS d (slug);
  END IF;

  SELECT * INTO step
  FROM pgflow.steps AS s
  WHERE s.flow_slug = add_step.flow_slug AND s.step_slug = add_step.step_slug;
  RETURN step;
END
$$;
