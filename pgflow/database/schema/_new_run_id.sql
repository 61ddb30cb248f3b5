-- A new run's id: a random UUID whose first three digits are those of the minute, of 4,096. So what is inserted in a minute goes
-- to one place of an index by run, instead of all over it; and ids remain told apart by their first digits.
CREATE FUNCTION pgflow._new_run_id()
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  minute CONSTANT bigint := extract(epoch FROM now())::bigint / 60 % 4096;
BEGIN
  RETURN lpad(to_hex(minute), 3, '0') || substr(gen_random_uuid()::text, 4);
END
$$;
