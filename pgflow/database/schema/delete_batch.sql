-- Ours: delete a batch with all its runs and messages. Its flow stays, for workers that serve it and for a batch to come.
CREATE FUNCTION pgflow.delete_batch(p_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  flow_slug CONSTANT text := (SELECT b.flow_slug FROM pgflow.batches AS b WHERE b.name = p_name);
BEGIN
  IF flow_slug IS NOT NULL THEN
    PERFORM pgflow._delete_flow_runs(flow_slug);
    PERFORM pgmq.purge_queue(flow_slug);
    EXECUTE format('TRUNCATE pgmq.%I', pgmq.format_table_name(flow_slug, 'a'));
  END IF;
END
$$;
