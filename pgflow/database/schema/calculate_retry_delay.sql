-- Seconds until the next attempt: base * 2^attempts, clamped to what an int holds. Not in SQL, which would be planned anew
-- in every statement that calls it.
CREATE FUNCTION pgflow.calculate_retry_delay(base_delay numeric, attempts_count int)
RETURNS int
LANGUAGE plpgsql
IMMUTABLE
PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  delay numeric := floor(base_delay * power(2::numeric, CASE WHEN attempts_count > 64 THEN 64 ELSE attempts_count END));
BEGIN
  RETURN CASE WHEN delay > 2147483647 THEN 2147483647 ELSE delay END;
END
$$;
