-- Refuse arguments that are not all as long as the first one: what is missing at an end would be taken for NULL, and a task
-- would complete without its output. A length of NULL says that the array is not given, as array_agg makes it of no tasks.
CREATE FUNCTION pgflow._check_lengths(function_name text, argument_names text[], lengths int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  FOR i IN 2 .. cardinality(lengths) LOOP
    IF coalesce(lengths[i], 0) <> coalesce(lengths[1], 0) THEN
      RAISE EXCEPTION '%(): % %, but % %',
        function_name,
        coalesce(lengths[1]::text, 'no'), argument_names[1],
        coalesce(lengths[i]::text, 'no'), argument_names[i];
    END IF;
  END LOOP;
END
$$;
