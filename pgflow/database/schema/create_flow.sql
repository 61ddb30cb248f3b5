-- Define a flow and its queue. An existing flow is returned as it is.
CREATE FUNCTION pgflow.create_flow(
  flow_slug text,
  max_attempts int DEFAULT NULL,
  base_delay int DEFAULT NULL,
  timeout int DEFAULT NULL
)
RETURNS pgflow.flows
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  sharing text;
  flow pgflow.flows;
BEGIN
  INSERT INTO pgflow.flows (flow_slug, opt_max_attempts, opt_base_delay, opt_timeout)
  VALUES (
    create_flow.flow_slug,
    coalesce(create_flow.max_attempts, 3),
    coalesce(create_flow.base_delay, 5),
    coalesce(create_flow.timeout, 60)
  )
  ON CONFLICT DO NOTHING;

  IF NOT EXISTS (SELECT FROM pgmq.list_queues() AS q WHERE q.queue_name = create_flow.flow_slug) THEN
    IF length(create_flow.flow_slug) > 47 THEN
      RAISE EXCEPTION 'queue name is too long, maximum length is 48 characters'
        USING
          DETAIL = format(
            'The queue of flow %s would have its %s characters.', create_flow.flow_slug, length(create_flow.flow_slug)
          ),
          HINT = 'Give the flow a slug of at most 47 characters.';
    END IF;

    -- pgmq lower-cases its tables' names: flows that differ only in case would share one queue.
    PERFORM pg_advisory_xact_lock(2, hashtext(lower(create_flow.flow_slug)));
    SELECT q.queue_name INTO sharing
    FROM pgmq.list_queues() AS q
    WHERE lower(q.queue_name) = lower(create_flow.flow_slug);
    IF sharing <> create_flow.flow_slug THEN
      RAISE EXCEPTION 'Flow % cannot be created: it would share its queue with %, which differs only in case',
        create_flow.flow_slug, sharing
        USING HINT = 'Give the flow another slug.';
    END IF;
    PERFORM pgmq.create(create_flow.flow_slug);
  END IF;

  SELECT * INTO flow FROM pgflow.flows AS f WHERE f.flow_slug = create_flow.flow_slug;
  RETURN flow;
END
$$;
