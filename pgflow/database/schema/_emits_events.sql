-- Whether anybody is told of events: Supabase's realtime, looked up at each call because it may come after pgflow, or
-- LISTEN on pgflow_events where the database says so: ALTER DATABASE name SET pgflow.events = 'notify'. That is off by
-- default, because a NOTIFY makes commits wait for each other.
CREATE FUNCTION pgflow._emits_events()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN pgflow._has_realtime() OR coalesce(current_setting('pgflow.events', true) = 'notify', false);
END
$$;
