-- Reading, and verifying that a flow is compiled as the code has it, which writes nothing where it is.
GRANT USAGE ON SCHEMA pgflow TO {role};
GRANT SELECT ON
  pgflow.flows,
  pgflow.steps,
  pgflow.deps,
  pgflow.runs,
  pgflow.step_states,
  pgflow.step_tasks,
  pgflow.workers,
  pgflow.worker_processes,
  pgflow.task_attempts,
  pgflow.recording_steps,
  pgflow.run_interventions,
  pgflow.batches,
  pgflow.batch_files,
  pgflow.batch_runs,
  pgflow.schema_versions
TO {role};
GRANT EXECUTE ON FUNCTION
  pgflow.ensure_flow_compiled,
  pgflow.update_flow_options,
  pgflow._option_differences,
  pgflow.is_local,
  pgflow._get_flow_shape,
  pgflow._pattern_shape,
  pgflow._compare_flow_shapes,
  pgflow._definitions,
  pgflow.get_run_with_states
TO {role};
