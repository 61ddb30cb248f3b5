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

-- A run of several steps changes its row with each of them, and no index until it ends: with room on the page, 71 of 100
-- updates leave the indexes alone instead of 44 (flows of five steps). In step_states and step_tasks the columns that
-- change are in indexes or their conditions, so room would be for nothing.
ALTER TABLE pgflow.runs SET (fillfactor = 70);

-- By default a table is vacuumed when a fifth of its rows are dead, which with ten million finished tasks are two million.
ALTER TABLE pgflow.runs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE pgflow.step_states SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE pgflow.step_tasks SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
