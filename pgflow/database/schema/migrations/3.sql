-- Ours: what became of each attempt of each task. `outcome` says how it ended, `evidence` what a worker saw of it. It is
-- written when the attempt ends, and stays when the run is retried. No foreign key: its check would lock the run, and who
-- requeues tasks comes with tasks locked (seen: a deadlock with a batch of verdicts); who deletes runs deletes this too.
CREATE TABLE pgflow.task_attempts (
  run_id uuid NOT NULL,
  step_slug text NOT NULL,
  task_index int NOT NULL,
  attempt_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  attempt int NOT NULL,
  outcome text NOT NULL,
  worker_id uuid,
  started_at timestamptz,
  ended_at timestamptz NOT NULL,
  error_message text,
  evidence jsonb,
  CONSTRAINT task_attempts_pkey PRIMARY KEY (run_id, step_slug, task_index, attempt_id),
  CONSTRAINT outcome_is_valid CHECK (
    outcome IN (
      'completed', 'failed', 'timed_out', 'crashed', 'out_of_memory', 'cancelled', 'released', 'requeued', 'stalled'
    )
  )
);

-- Ours: steps whose tasks, once their attempts are spent, complete with their error as the output.
CREATE TABLE pgflow.recording_steps (
  flow_slug text NOT NULL,
  step_slug text NOT NULL,
  CONSTRAINT recording_steps_pkey PRIMARY KEY (flow_slug, step_slug),
  CONSTRAINT recording_steps_flow_slug_step_slug_fkey FOREIGN KEY (flow_slug, step_slug)
    REFERENCES pgflow.steps (flow_slug, step_slug) ON DELETE CASCADE
);

-- Ours: who cancelled or retried a run, when and why.
CREATE TABLE pgflow.run_interventions (
  run_id uuid NOT NULL,
  intervention_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  action text NOT NULL,
  happened_at timestamptz NOT NULL DEFAULT now(),
  requested_by text NOT NULL,
  reason text,
  CONSTRAINT run_interventions_pkey PRIMARY KEY (run_id, intervention_id),
  CONSTRAINT run_interventions_run_id_fkey FOREIGN KEY (run_id) REFERENCES pgflow.runs (run_id) ON DELETE CASCADE,
  CONSTRAINT action_is_valid CHECK (action IN ('cancelled', 'retried'))
);

-- Ours: workers that have found nothing to claim and wait for a notification. Unlogged: after a crash of the server
-- nobody waits any more.
CREATE UNLOGGED TABLE pgflow.waiting_workers (
  worker_id uuid NOT NULL,
  flow_slug text NOT NULL,
  CONSTRAINT waiting_workers_pkey PRIMARY KEY (worker_id),
  CONSTRAINT waiting_workers_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES pgflow.workers (worker_id)
    ON DELETE CASCADE
);
CREATE INDEX idx_waiting_workers_flow_slug ON pgflow.waiting_workers (flow_slug);
