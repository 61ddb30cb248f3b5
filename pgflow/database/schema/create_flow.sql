-- Define a flow and its queue. An existing flow is returned as it is.
CREATE FUNCTION pgflow.create_flow(
  flow_slug text,
  max_attempts int DEFAULT NULL,
  base_delay int DEFAULT NULL,
  timeout int DEFAULT NULL
)
RETURNS pgflow.flows
LANGUAGE plpgsql
SET search_path TO ''
AS $$
DECLARE
  existing text;
  flow pgflow.flows;
BEGIN
  -- pgmq lower-cases its tables' names: flows that differ only in case would share one queue.
  SELECT f.flow_slug INTO existing
  FROM pgflow.flows AS f
  WHERE lower(f.flow_slug) = lower(create_flow.flow_slug) AND f.flow_slug <> create_flow.flow_slug;
  IF FOUND THEN
    RAISE EXCEPTION 'Flow % cannot be created: it would share its queue with flow %, which differs only in case',
      create_flow.flow_slug, existing;
  END IF;

  INSERT INTO pgflow.flows (flow_slug, opt_max_attempts, opt_base_delay, opt_timeout)
  VALUES (
    create_flow.flow_slug,
    coalesce(create_flow.max_attempts, 3),
    coalesce(create_flow.base_delay, 5),
    coalesce(create_flow.timeout, 60)
  )
  ON CONFLICT DO NOTHING;

  IF NOT EXISTS (SELECT FROM pgmq.list_queues() AS q WHERE q.queue_name = create_flow.flow_slug) THEN
    PERFORM pgmq.create(create_flow.flow_slug);
  END IF;

  SELECT * INTO flow FROM pgflow.flows AS f WHERE f.flow_slug = create_flow.flow_slug;
  RETURN flow;
END
$$;
