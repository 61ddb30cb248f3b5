-- Ours: which process a worker is, so that another one on the same machine can tell whether it is still there. Processes of
-- one scope see each other; `pid` and `started`, in clock ticks since the machine's start, name a process among them.
CREATE TABLE pgflow.worker_processes (
  worker_id uuid NOT NULL,
  host text NOT NULL,
  scope text NOT NULL,
  pid int NOT NULL,
  started bigint NOT NULL,
  CONSTRAINT worker_processes_pkey PRIMARY KEY (worker_id),
  CONSTRAINT worker_processes_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES pgflow.workers (worker_id)
    ON DELETE CASCADE
);
