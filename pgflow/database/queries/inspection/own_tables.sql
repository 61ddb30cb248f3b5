SELECT
  to_regclass('pgflow.task_attempts') IS NOT NULL AS task_attempts,
  to_regclass('pgflow.recording_steps') IS NOT NULL AS recording_steps,
  to_regclass('pgflow.run_interventions') IS NOT NULL AS run_interventions,
  to_regclass('pgflow.worker_processes') IS NOT NULL AS worker_processes
