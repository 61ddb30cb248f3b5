-- Ours: which version of the schema this is, and what its tables looked like when it was installed, by object.
CREATE TABLE pgflow.schema_versions (
  version int NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT now(),
  installed_by text NOT NULL,
  table_definitions jsonb NOT NULL,
  CONSTRAINT schema_versions_pkey PRIMARY KEY (version)
);
