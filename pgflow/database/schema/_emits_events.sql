-- Whether anybody is told of events: Supabase's realtime, looked up at each call because it may come after pgflow, or
-- LISTEN on pgflow_events where the database says so: ALTER DATABASE name SET pgflow.events = 'notify'. That is off by
-- default, because a NOTIFY makes commits wait for each other.
CREATE FUNCTION pgflow._emits_events()
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path TO ''
AS $$
  SELECT to_regprocedure('realtime.send(jsonb,text,text,boolean)') IS NOT NULL
    OR coalesce(current_setting('pgflow.events', true) = 'notify', false)
$$;
