-- Ours: which version of the schema this is.
CREATE TABLE pgflow.schema_versions (
  version int NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT now(),
  installed_by text NOT NULL,
  CONSTRAINT schema_versions_pkey PRIMARY KEY (version)
);
