-- A new run's id: a UUID of version 7, which begins with the milliseconds since 1970 and is random otherwise. Indexes by
-- run grow at one end with them.
CREATE FUNCTION pgflow._new_run_id()
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  milliseconds CONSTANT bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
BEGIN
  RETURN encode(
    -- Version 4 has the bits 0100 where version 7 has 0111.
    set_bit(
      set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(milliseconds) FROM 3) FROM 1 FOR 6), 52, 1),
      53,
      1
    ),
    'hex'
  )::uuid;
END
$$;
