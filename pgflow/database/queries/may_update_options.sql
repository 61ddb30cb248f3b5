SELECT
  (
    SELECT bool_and(has_column_privilege('pgflow.flows', name, 'UPDATE'))
    FROM unnest('{opt_max_attempts,opt_base_delay,opt_timeout}'::text[]) AS name
  )
  AND (
    SELECT bool_and(has_column_privilege('pgflow.steps', name, 'UPDATE'))
    FROM unnest('{opt_max_attempts,opt_base_delay,opt_timeout,opt_start_delay}'::text[]) AS name
  ) AS may
