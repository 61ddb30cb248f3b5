-- Ours: which version of the schema this is, and what its tables looked like when it was installed, by object.
CREATE TABLE pgflow.schema_versions (
  version int NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT now(),
  installed_by text NOT NULL,
  table_definitions jsonb NOT NULL,
  CONSTRAINT schema_versions_pkey PRIMARY KEY (version)
);

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
