-- Ours: go through the next chunk of a batch's input: what the batch has already is seen in this pass, the rest becomes a
-- run. The n-th mention of an item in a pass is its n-th occurrence, so the input may be in another order than before, or have
-- grown. `p_items` is an array; `p_keys` has 16 bytes for each item, a hash of its content. `verdict` is 'next', 'repeated' (a
-- chunk of that number was added before; nothing is changed), or 'taken over' by another pass; `items` is how many the batch
-- has then, `unwritten` how many of them are not in its files.
CREATE FUNCTION pgflow.add_batch_items(
  p_batch_id bigint, p_pass int, p_chunk int, p_keys bytea, p_items jsonb, p_item_indexes bigint[]
)
RETURNS TABLE (verdict text, added int, items bigint, unwritten bigint)
LANGUAGE plpgsql
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
  is_new boolean[];
  new record;
BEGIN
  PERFORM pgflow._check_lengths(
    'add_batch_items',
    ARRAY['p_keys / 16', 'p_items', 'p_item_indexes'],
    ARRAY[length(p_keys) / 16, jsonb_array_length(p_items), cardinality(p_item_indexes)]
  );
  verdict := pgflow._begin_chunk(p_batch_id, p_pass, p_chunk);
  added := 0;
  IF verdict = 'next' THEN
    SELECT array_agg(m.seen_before + m.mention > m.occurrences ORDER BY m.position) INTO is_new
    FROM (
      SELECT
        m.position,
        row_number() OVER (PARTITION BY m.key ORDER BY m.position) AS mention,
        coalesce(k.occurrences, 0) AS occurrences,
        coalesce(k.seen, 0) AS seen_before
      FROM (
        SELECT n.position, substring(p_keys FROM n.position * 16 - 15 FOR 16) AS key
        FROM generate_series(1, length(p_keys) / 16) AS n (position)
      ) AS m
      LEFT JOIN LATERAL (
        SELECT k.occurrences, CASE WHEN k.pass = p_pass THEN k.seen ELSE 0 END AS seen
        FROM pgflow.batch_keys AS k
        WHERE k.batch_id = p_batch_id AND k.key = m.key
        OFFSET 0
      ) AS k ON true
    ) AS m;

    INSERT INTO pgflow.batch_keys AS k (batch_id, key, pass, occurrences, seen)
    SELECT p_batch_id, m.key, p_pass, count(*), count(*)
    FROM (
      SELECT substring(p_keys FROM n.position * 16 - 15 FOR 16) AS key
      FROM generate_series(1, length(p_keys) / 16) AS n (position)
    ) AS m
    GROUP BY m.key
    ORDER BY m.key
    ON CONFLICT ON CONSTRAINT batch_keys_pkey DO UPDATE
    SET
      pass = excluded.pass,
      seen = CASE WHEN k.pass = excluded.pass THEN k.seen ELSE 0 END + excluded.seen,
      occurrences = greatest(
        k.occurrences, CASE WHEN k.pass = excluded.pass THEN k.seen ELSE 0 END + excluded.seen
      );

    IF true = ANY(is_new) THEN
      SELECT
        array_agg(p_item_indexes[e.position] ORDER BY e.position) AS item_indexes,
        jsonb_agg(e.item ORDER BY e.position) AS items,
        string_agg(substring(p_keys FROM e.position::int * 16 - 15 FOR 16), ''::bytea ORDER BY e.position) AS keys
      INTO new
      FROM jsonb_array_elements(p_items) WITH ORDINALITY AS e (item, position)
      WHERE is_new[e.position];
      added := cardinality(new.item_indexes);
      PERFORM pgflow._start_batch_run(p_batch_id, new.items, new.item_indexes, new.keys);
      UPDATE pgflow.batches AS b SET items = b.items + added WHERE b.batch_id = p_batch_id;
    END IF;
  END IF;
  RETURN QUERY SELECT verdict, added, c.items, c.unwritten FROM pgflow._count_batch_items(p_batch_id) AS c;
END
$$;
