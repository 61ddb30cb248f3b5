SELECT to_regclass('pgflow.worker_processes') IS NOT NULL AS knows_processes
