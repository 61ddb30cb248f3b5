-- Ours: the batches of `pgflow batch`. Its items are tasks of runs of one flow with one map, a run for each chunk of items.
-- Each time it is begun or resumed the batch goes through its input anew: a `pass`. `chunks` says how many of this pass have
-- been added, so that one that is added again after a lost answer changes nothing; `items` how many there are in all. Who
-- works for a batch names its pass, so that nobody goes on once somebody else has taken it over.
CREATE TABLE pgflow.batches (
  batch_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  name text NOT NULL,
  flow_slug text NOT NULL,
  target text NOT NULL,
  reference text NOT NULL,
  pass int NOT NULL DEFAULT 1,
  chunks int NOT NULL DEFAULT 0,
  items bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  touched_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT batches_pkey PRIMARY KEY (batch_id),
  CONSTRAINT batches_name_key UNIQUE (name)
);
CREATE INDEX idx_batches_flow_slug ON pgflow.batches (flow_slug);

-- Ours: the files that a batch writes, and how many bytes of them are known to be written. Beside the batch's row, which
-- is locked while a chunk is added.
CREATE TABLE pgflow.batch_files (
  batch_id bigint NOT NULL,
  kind text NOT NULL,
  path text NOT NULL,
  size bigint NOT NULL DEFAULT 0,
  CONSTRAINT batch_files_pkey PRIMARY KEY (batch_id, kind),
  CONSTRAINT batch_files_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES pgflow.batches (batch_id) ON DELETE CASCADE,
  CONSTRAINT kind_is_valid CHECK (kind IN ('output', 'errors', 'joblog'))
);

-- Ours: which items a batch has, by a hash of their content: how often each occurs, and how often it has been seen in the
-- last pass that saw it. No foreign key, which every item would pay for.
CREATE TABLE pgflow.batch_keys (
  batch_id bigint NOT NULL,
  key bytea NOT NULL,
  pass int NOT NULL,
  occurrences int NOT NULL,
  seen int NOT NULL,
  CONSTRAINT batch_keys_pkey PRIMARY KEY (batch_id, key)
) WITH (fillfactor = 90);

-- Ours: the runs of a batch, in the order in which they were added. What there is to know of each item is in the row of its
-- run, by its task's index: its place in the input, its key (16 bytes, one after the other), and in bits whether its output is
-- in the batch's files, and whether it has failed. So a page of a thousand outputs changes a row or two. No foreign key to
-- runs, as in task_attempts.
CREATE TABLE pgflow.batch_runs (
  run_id uuid NOT NULL,
  batch_id bigint NOT NULL,
  position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  item_count int NOT NULL,
  unwritten int NOT NULL,
  failures int NOT NULL DEFAULT 0,
  written bit varying NOT NULL,
  failed bit varying NOT NULL,
  item_indexes bigint[] NOT NULL,
  keys bytea NOT NULL,
  CONSTRAINT batch_runs_pkey PRIMARY KEY (run_id)
);
CREATE INDEX idx_batch_runs_batch_id ON pgflow.batch_runs (batch_id);
CREATE INDEX idx_batch_runs_unwritten ON pgflow.batch_runs (batch_id, position) WHERE unwritten > 0;
CREATE INDEX idx_batch_runs_failures ON pgflow.batch_runs (batch_id, position) WHERE failures > 0;

-- The newest runs are what operators ask for; without it that is a look at every run.
CREATE INDEX idx_runs_started_at ON pgflow.runs (started_at);
