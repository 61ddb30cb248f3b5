-- Functions are replaced when their digest differs; what they look like is recorded with the tables.
ALTER TABLE pgflow.schema_versions ADD COLUMN digest text;
ALTER TABLE pgflow.schema_versions RENAME COLUMN table_definitions TO definitions;

-- Ours: which run was started with which key. Deferred, because whoever inserts the key first starts the run.
CREATE TABLE pgflow.run_keys (
  flow_slug text NOT NULL,
  key text NOT NULL,
  run_id uuid NOT NULL,
  CONSTRAINT run_keys_pkey PRIMARY KEY (flow_slug, key),
  CONSTRAINT run_keys_run_id_fkey FOREIGN KEY (run_id) REFERENCES pgflow.runs (run_id)
    ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX idx_run_keys_run_id ON pgflow.run_keys (run_id);

-- Of two indexes that cost the same PostgreSQL takes the younger, and for a table of one row the key costs no less than
-- the index by flow, run and step.
ALTER TABLE pgflow.step_tasks DROP CONSTRAINT step_tasks_pkey;
ALTER TABLE pgflow.step_tasks ADD CONSTRAINT step_tasks_pkey PRIMARY KEY (run_id, step_slug, task_index);
