-- Ours: the outputs of some items are in the batch's files now, which have these sizes. p_written[i] has a bit for each item of
-- p_run_ids[i], p_failed[i] one for each of them that has failed. Doing it again changes nothing. False when another pass has
-- taken the batch over.
CREATE FUNCTION pgflow.mark_batch_written(
  p_batch_id bigint,
  p_pass int,
  p_run_ids uuid[],
  p_written bit varying[],
  p_failed bit varying[],
  p_kinds text[],
  p_sizes bigint[]
)
RETURNS boolean
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
BEGIN
  PERFORM pgflow._check_lengths(
    'mark_batch_written',
    ARRAY['p_run_ids', 'p_written', 'p_failed'],
    ARRAY[cardinality(p_run_ids), cardinality(p_written), cardinality(p_failed)]
  );
  PERFORM FROM pgflow.batches AS b WHERE b.batch_id = p_batch_id AND b.pass = p_pass FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE pgflow.batch_runs AS r
  SET
    written = r.written | m.written,
    unwritten = r.item_count - bit_count(r.written | m.written)::int,
    failed = r.failed | m.failed,
    failures = bit_count(r.failed | m.failed)::int
  FROM unnest(p_run_ids, p_written, p_failed) AS m (run_id, written, failed)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.batch_runs AS k WHERE k.run_id = m.run_id AND k.batch_id = p_batch_id OFFSET 0
  ) AS k
  WHERE r.ctid = k.ctid;
  UPDATE pgflow.batch_files AS f
  SET size = m.size
  FROM unnest(p_kinds, p_sizes) AS m (kind, size)
  WHERE f.batch_id = p_batch_id AND f.kind = m.kind;
  RETURN true;
END
$$;
