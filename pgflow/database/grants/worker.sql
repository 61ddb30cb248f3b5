GRANT INSERT (worker_id, queue_name, function_name), UPDATE (last_heartbeat_at, stopped_at) ON pgflow.workers TO {role};
GRANT INSERT ON pgflow.worker_processes TO {role};
GRANT EXECUTE ON FUNCTION
  pgflow.claim_tasks,
  pgflow.complete_tasks,
  pgflow.fail_tasks,
  pgflow.release_tasks,
  pgflow.requeue_tasks,
  pgflow.renew_tasks,
  pgflow.requeue_stalled_tasks,
  pgflow.await_tasks,
  pgflow.stop_awaiting_tasks,
  pgflow.mark_worker_stopped
TO {role};
