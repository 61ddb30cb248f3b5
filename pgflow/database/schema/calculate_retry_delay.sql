-- Seconds until the next attempt: base * 2^attempts, clamped to what an int holds.
CREATE FUNCTION pgflow.calculate_retry_delay(base_delay numeric, attempts_count int)
RETURNS int
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT least(floor(base_delay * power(2::numeric, least(attempts_count, 64))), 2147483647)::int
$$;
