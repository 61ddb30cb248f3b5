-- Ours: start a run for each input, in a number of statements that does not grow with them; all or none. A key makes a
-- run unique among its flow's: starting with a key that was there before, or twice in the batch, gives the run that is
-- there, whatever its input was. NULL is no key. Returns a row for each input, in their order.
CREATE FUNCTION pgflow.start_flows(flow_slug text, inputs jsonb[], keys text[] DEFAULT NULL)
RETURNS TABLE (ordinal int, run_id uuid, is_new boolean)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  batch record;
  starting record;
BEGIN
  PERFORM pgflow._check_lengths(
    'start_flows',
    ARRAY['inputs', 'keys'],
    ARRAY[cardinality(inputs), coalesce(cardinality(keys), cardinality(inputs))]
  );

  -- Before anything that the flow's deletion waits for; see _delete_flow_runs.
  PERFORM pg_advisory_xact_lock_shared(4, hashtext(start_flows.flow_slug));

  -- A run id for each input; the key's second mention in the batch gets that of the first.
  SELECT array_agg(b.run_id ORDER BY b.position) AS run_ids
  INTO batch
  FROM (
    SELECT b.position, first_value(b.run_id) OVER (PARTITION BY b.key, b.mention ORDER BY b.position) AS run_id
    FROM (
      SELECT b.position, b.key, CASE WHEN b.key IS NULL THEN b.position END AS mention, pgflow._new_run_id() AS run_id
      FROM unnest(inputs, keys) WITH ORDINALITY AS b (input, key, position)
      OFFSET 0  -- one id for each row: first_value would make one at each look
    ) AS b
  ) AS b;

  -- In the order of keys, so that batches which share some wait for each other and never in a circle. Who waited finds
  -- the other's run in the next statement.
  WITH inserted AS (
    INSERT INTO pgflow.run_keys AS k (flow_slug, key, run_id)
    SELECT start_flows.flow_slug, b.key, b.run_id
    FROM unnest(keys, batch.run_ids) AS b (key, run_id)
    WHERE b.key IS NOT NULL
    GROUP BY b.key, b.run_id
    ORDER BY b.key
    ON CONFLICT ON CONSTRAINT run_keys_pkey DO NOTHING
    RETURNING k.run_id
  )
  SELECT array_agg(b.run_id ORDER BY b.position) AS run_ids, array_agg(b.input ORDER BY b.position) AS inputs
  INTO starting
  FROM (
    SELECT DISTINCT ON (b.run_id) b.run_id, b.input, b.position
    FROM unnest(batch.run_ids, inputs, keys) WITH ORDINALITY AS b (run_id, input, key, position)
    WHERE b.key IS NULL OR b.run_id IN (SELECT inserted.run_id FROM inserted)
    ORDER BY b.run_id, b.position
  ) AS b;

  IF starting.run_ids IS NOT NULL THEN
    PERFORM pgflow._start_runs(start_flows.flow_slug, starting.run_ids, starting.inputs);
  END IF;

  RETURN QUERY
  SELECT
    b.position::int,
    coalesce(k.run_id, b.run_id),
    coalesce(k.run_id, b.run_id) = b.run_id
      AND row_number() OVER (PARTITION BY b.run_id ORDER BY b.position) = 1
  FROM unnest(batch.run_ids, keys) WITH ORDINALITY AS b (run_id, key, position)
  LEFT JOIN LATERAL (
    SELECT k.run_id
    FROM pgflow.run_keys AS k
    WHERE k.flow_slug = start_flows.flow_slug AND k.key = b.key
    OFFSET 0
  ) AS k ON true
  ORDER BY b.position;
END
$$;
