-- Set the visibility of several messages of one queue, each its own; returns the messages that are there.
CREATE FUNCTION pgflow.set_vt_batch(queue_name text, msg_ids bigint[], vt_offsets int[])
RETURNS TABLE (
  msg_id bigint, read_ct int, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb
)
LANGUAGE plpgsql
AS $$
BEGIN
  IF msg_ids IS NULL OR vt_offsets IS NULL THEN
    RETURN;
  END IF;
  IF cardinality(msg_ids) <> cardinality(vt_offsets) THEN
    RAISE EXCEPTION 'msg_ids length (%) must equal vt_offsets length (%)',
      cardinality(msg_ids), cardinality(vt_offsets);
  END IF;
  RETURN QUERY EXECUTE format(
    $query$
      UPDATE pgmq.%I AS q
      SET vt = clock_timestamp() + make_interval(secs => w.vt_offset)
      FROM unnest($1, $2) AS w (msg_id, vt_offset)
      -- Said twice, so that it goes by key in whichever order the planner joins.
      WHERE q.msg_id = ANY($1) AND q.msg_id = w.msg_id
      RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message, q.headers
    $query$,
    pgmq.format_table_name(queue_name, 'q')
  ) USING msg_ids, vt_offsets;
END
$$;
