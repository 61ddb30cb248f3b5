GRANT EXECUTE ON FUNCTION
  pgflow.start_flows,
  pgflow.start_flow_with_states
TO {role};
