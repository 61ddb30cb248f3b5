-- Seconds until the next attempt: base * 2^attempts, clamped to what an int holds.
CREATE FUNCTION pgflow.calculate_retry_delay(base_delay numeric, attempts_count int)
RETURNS int
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN d.delay > 2147483647 THEN 2147483647 ELSE d.delay::int END
  FROM (
    SELECT floor(base_delay * power(2::numeric, CASE WHEN attempts_count > 64 THEN 64 ELSE attempts_count END))
  ) AS d (delay)
$$;
