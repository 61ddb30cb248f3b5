-- Ours: run the failed items of the next runs of a batch again that are to (begin_batch_pass: they are not written), as one
-- run, in whose place they count from then on; of at most so many items. The result is as in add_batch_items; when nothing is
-- left `added` is 0.
CREATE FUNCTION pgflow.retry_batch_failures(p_batch_id bigint, p_pass int, p_chunk int, p_limit int)
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
  again record;
BEGIN
  verdict := pgflow._begin_chunk(p_batch_id, p_pass, p_chunk);
  added := 0;
  IF verdict = 'next' THEN
    SELECT
      array_agg(DISTINCT r.run_id) AS run_ids,
      array_agg(r.item_indexes[i.task_index + 1] ORDER BY r.position, i.task_index) AS item_indexes,
      jsonb_agg(r.input -> i.task_index ORDER BY r.position, i.task_index) AS items,
      string_agg(substring(r.keys FROM i.task_index * 16 + 1 FOR 16), ''::bytea ORDER BY r.position, i.task_index) AS keys
    INTO again
    FROM (
      -- What is toasted is read here, once for each run and not for each of its items.
      SELECT r.run_id, r.position, r.waiting, r.item_count, r.item_indexes || '{}' AS item_indexes, r.keys || '' AS keys,
        r.input || '[]'::jsonb AS input
      FROM (
        SELECT
          r.*,
          f.input,
          sum(bit_count(r.waiting)) OVER before + bit_count(r.waiting) AS failures_so_far,
          row_number() OVER (ORDER BY r.position) AS place,
          sum(pg_column_size(f.input)) OVER (ORDER BY r.position) AS size_so_far
        FROM (
          SELECT r.*, r.failed & ~r.written AS waiting
          FROM pgflow.batch_runs AS r
          WHERE r.batch_id = p_batch_id AND r.failures > 0 AND bit_count(r.failed & ~r.written) > 0
          ORDER BY r.position
          LIMIT 100
        ) AS r
        CROSS JOIN LATERAL (SELECT f.input FROM pgflow.runs AS f WHERE f.run_id = r.run_id OFFSET 0) AS f
        WINDOW before AS (ORDER BY r.position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      ) AS r
      WHERE r.place = 1 OR (r.failures_so_far <= p_limit AND r.size_so_far <= 1048576)
      OFFSET 0
    ) AS r
    CROSS JOIN LATERAL generate_series(0, r.item_count - 1) AS i (task_index)
    WHERE get_bit(r.waiting, i.task_index) = 1;

    IF again.run_ids IS NOT NULL THEN
      added := cardinality(again.item_indexes);
      UPDATE pgflow.batch_runs AS r
      SET
        written = r.written | r.failed,
        unwritten = r.item_count - bit_count(r.written | r.failed)::int,
        failed = r.failed & r.written,
        failures = bit_count(r.failed & r.written)::int
      WHERE r.run_id = ANY(again.run_ids);
      PERFORM pgflow._start_batch_run(p_batch_id, again.items, again.item_indexes, again.keys);
    END IF;
  END IF;
  RETURN QUERY SELECT verdict, added, c.items, c.unwritten FROM pgflow._count_batch_items(p_batch_id) AS c;
END
$$;
