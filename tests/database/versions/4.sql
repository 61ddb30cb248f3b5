-- Version 4 of the schema, as pgflow installed it at 0464ced. For tests of upgrades.
CREATE SCHEMA pgflow;
-- Whether a text may name a flow or a step.
CREATE FUNCTION pgflow.is_valid_slug(slug text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT slug IS NOT NULL
    AND length(slug) BETWEEN 1 AND 128
    AND slug ~ '^[a-zA-Z_][a-zA-Z0-9_]*$'
    AND slug <> 'run'
$$;

-- The contract's tables. Every column, constraint and index is pinned by it, but that a task may also be 'skipped',
-- with its step; ours are in own_tables.sql.
--
-- Locks are taken in the order runs, step_states, step_tasks, messages of the queue, in each of them by key. Whoever
-- changes a run's step states holds the run; whoever changes the message of a task holds the task. Claims come from the
-- other side, with messages locked by pgmq.read, so they pass over a locked task instead of waiting for it.
--
-- Plans are cached for the life of a session, which may begin when the tables are empty, and statistics know nothing
-- of a flow or a burst of tasks that is younger than they are. So functions of the hot path force generic plans without
-- sequential scans, hash and merge joins, all of which read a table from end to end, count costs in rows alone, and look
-- rows up by key in a LATERAL that leaves the planner no choice (docs/sql.md, Plans). They also write `status || ''` where
-- the planner would else take an index on that column for cheap and read it from end to end (seen: 4.6 ms a task instead
-- of 0.15 with 10,000 queued). Only _start_ready_steps joins much with much, and hashes.

CREATE TABLE pgflow.flows (
  flow_slug text NOT NULL,
  opt_max_attempts int NOT NULL DEFAULT 3,
  opt_base_delay int NOT NULL DEFAULT 1,
  opt_timeout int NOT NULL DEFAULT 60,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT flows_pkey PRIMARY KEY (flow_slug),
  CONSTRAINT slug_is_valid CHECK (pgflow.is_valid_slug(flow_slug)),
  CONSTRAINT opt_max_attempts_is_nonnegative CHECK (opt_max_attempts >= 0),
  CONSTRAINT opt_base_delay_is_nonnegative CHECK (opt_base_delay >= 0),
  CONSTRAINT opt_timeout_is_positive CHECK (opt_timeout > 0)
);

CREATE TABLE pgflow.steps (
  flow_slug text NOT NULL,
  step_slug text NOT NULL,
  step_type text NOT NULL DEFAULT 'single',
  step_index int NOT NULL DEFAULT 0,
  deps_count int NOT NULL DEFAULT 0,
  opt_max_attempts int,
  opt_base_delay int,
  opt_timeout int,
  created_at timestamptz NOT NULL DEFAULT now(),
  opt_start_delay int,
  required_input_pattern jsonb,
  forbidden_input_pattern jsonb,
  when_unmet text NOT NULL DEFAULT 'skip',
  when_exhausted text NOT NULL DEFAULT 'fail',
  CONSTRAINT steps_pkey PRIMARY KEY (flow_slug, step_slug),
  CONSTRAINT steps_flow_slug_step_index_key UNIQUE (flow_slug, step_index),
  CONSTRAINT steps_flow_slug_fkey FOREIGN KEY (flow_slug) REFERENCES pgflow.flows (flow_slug),
  CONSTRAINT steps_step_slug_check CHECK (pgflow.is_valid_slug(step_slug)),
  CONSTRAINT steps_step_type_check CHECK (step_type IN ('single', 'map')),
  CONSTRAINT steps_deps_count_check CHECK (deps_count >= 0),
  CONSTRAINT opt_max_attempts_is_nonnegative CHECK (opt_max_attempts IS NULL OR opt_max_attempts >= 0),
  CONSTRAINT opt_base_delay_is_nonnegative CHECK (opt_base_delay IS NULL OR opt_base_delay >= 0),
  CONSTRAINT opt_timeout_is_positive CHECK (opt_timeout IS NULL OR opt_timeout > 0),
  CONSTRAINT opt_start_delay_is_nonnegative CHECK (opt_start_delay IS NULL OR opt_start_delay >= 0),
  CONSTRAINT required_input_pattern_is_object
    CHECK (required_input_pattern IS NULL OR jsonb_typeof(required_input_pattern) = 'object'),
  CONSTRAINT forbidden_input_pattern_is_object
    CHECK (forbidden_input_pattern IS NULL OR jsonb_typeof(forbidden_input_pattern) = 'object'),
  CONSTRAINT when_unmet_is_valid CHECK (when_unmet IN ('fail', 'skip', 'skip-cascade')),
  CONSTRAINT when_exhausted_is_valid CHECK (when_exhausted IN ('fail', 'skip', 'skip-cascade'))
);

CREATE TABLE pgflow.deps (
  flow_slug text NOT NULL,
  dep_slug text NOT NULL,
  step_slug text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT deps_pkey PRIMARY KEY (flow_slug, dep_slug, step_slug),
  CONSTRAINT deps_flow_slug_fkey FOREIGN KEY (flow_slug) REFERENCES pgflow.flows (flow_slug),
  CONSTRAINT deps_flow_slug_dep_slug_fkey
    FOREIGN KEY (flow_slug, dep_slug) REFERENCES pgflow.steps (flow_slug, step_slug),
  CONSTRAINT deps_flow_slug_step_slug_fkey
    FOREIGN KEY (flow_slug, step_slug) REFERENCES pgflow.steps (flow_slug, step_slug),
  CONSTRAINT deps_check CHECK (dep_slug <> step_slug)
);
CREATE INDEX idx_deps_by_flow_step ON pgflow.deps (flow_slug, step_slug);
CREATE INDEX idx_deps_by_flow_dep ON pgflow.deps (flow_slug, dep_slug);

CREATE TABLE pgflow.runs (
  run_id uuid NOT NULL DEFAULT gen_random_uuid(),
  flow_slug text NOT NULL,
  status text NOT NULL DEFAULT 'started',
  input jsonb NOT NULL,
  output jsonb,
  remaining_steps int NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now(),
  completed_at timestamptz,
  failed_at timestamptz,
  CONSTRAINT runs_pkey PRIMARY KEY (run_id),
  CONSTRAINT runs_flow_slug_fkey FOREIGN KEY (flow_slug) REFERENCES pgflow.flows (flow_slug),
  CONSTRAINT status_is_valid CHECK (status IN ('started', 'failed', 'completed')),
  CONSTRAINT runs_remaining_steps_check CHECK (remaining_steps >= 0),
  CONSTRAINT completed_at_or_failed_at CHECK (NOT (completed_at IS NOT NULL AND failed_at IS NOT NULL)),
  CONSTRAINT completed_at_is_after_started_at CHECK (completed_at IS NULL OR completed_at >= started_at),
  CONSTRAINT failed_at_is_after_started_at CHECK (failed_at IS NULL OR failed_at >= started_at)
);
CREATE INDEX idx_runs_flow_slug ON pgflow.runs (flow_slug);
CREATE INDEX idx_runs_status ON pgflow.runs (status);

CREATE TABLE pgflow.step_states (
  flow_slug text NOT NULL,
  run_id uuid NOT NULL,
  step_slug text NOT NULL,
  status text NOT NULL DEFAULT 'created',
  remaining_tasks int,
  remaining_deps int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  completed_at timestamptz,
  failed_at timestamptz,
  error_message text,
  initial_tasks int,
  output jsonb,
  skip_reason text,
  skipped_at timestamptz,
  CONSTRAINT step_states_pkey PRIMARY KEY (run_id, step_slug),
  CONSTRAINT step_states_flow_slug_fkey FOREIGN KEY (flow_slug) REFERENCES pgflow.flows (flow_slug),
  CONSTRAINT step_states_run_id_fkey FOREIGN KEY (run_id) REFERENCES pgflow.runs (run_id),
  CONSTRAINT step_states_flow_slug_step_slug_fkey
    FOREIGN KEY (flow_slug, step_slug) REFERENCES pgflow.steps (flow_slug, step_slug),
  CONSTRAINT status_is_valid CHECK (status IN ('created', 'started', 'completed', 'failed', 'skipped')),
  CONSTRAINT status_and_remaining_tasks_match CHECK (status <> 'completed' OR remaining_tasks = 0),
  CONSTRAINT remaining_tasks_state_consistency
    CHECK (remaining_tasks IS NULL OR status NOT IN ('created', 'skipped')),
  CONSTRAINT initial_tasks_known_when_started CHECK (status <> 'started' OR initial_tasks IS NOT NULL),
  CONSTRAINT output_only_for_completed_or_null CHECK (output IS NULL OR status = 'completed'),
  CONSTRAINT skip_reason_matches_status CHECK (
    (status = 'skipped' AND skip_reason IS NOT NULL) OR (status <> 'skipped' AND skip_reason IS NULL)
  ),
  CONSTRAINT completed_at_or_failed_at_or_skipped_at CHECK (
    (
      CASE WHEN completed_at IS NOT NULL THEN 1 ELSE 0 END
      + CASE WHEN failed_at IS NOT NULL THEN 1 ELSE 0 END
      + CASE WHEN skipped_at IS NOT NULL THEN 1 ELSE 0 END
    ) <= 1
  ),
  CONSTRAINT started_at_is_after_created_at CHECK (started_at IS NULL OR started_at >= created_at),
  CONSTRAINT completed_at_is_after_started_at CHECK (completed_at IS NULL OR completed_at >= started_at),
  CONSTRAINT failed_at_is_after_started_at CHECK (failed_at IS NULL OR failed_at >= started_at),
  CONSTRAINT skipped_at_is_after_created_at CHECK (skipped_at IS NULL OR skipped_at >= created_at),
  CONSTRAINT step_states_remaining_deps_check CHECK (remaining_deps >= 0),
  CONSTRAINT step_states_initial_tasks_check CHECK (initial_tasks IS NULL OR initial_tasks >= 0)
);
CREATE INDEX idx_step_states_ready ON pgflow.step_states (run_id, status, remaining_deps)
  WHERE status = 'created' AND remaining_deps = 0;
CREATE INDEX idx_step_states_failed ON pgflow.step_states (run_id, step_slug) WHERE status = 'failed';
CREATE INDEX idx_step_states_skipped ON pgflow.step_states (run_id, step_slug) WHERE status = 'skipped';
CREATE INDEX idx_step_states_flow_slug ON pgflow.step_states (flow_slug);
CREATE INDEX idx_step_states_run_id ON pgflow.step_states (run_id);

CREATE TABLE pgflow.workers (
  worker_id uuid NOT NULL,
  queue_name text NOT NULL,
  function_name text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  deprecated_at timestamptz,
  last_heartbeat_at timestamptz NOT NULL DEFAULT now(),
  stopped_at timestamptz,
  CONSTRAINT workers_pkey PRIMARY KEY (worker_id)
);
CREATE INDEX idx_workers_queue_name ON pgflow.workers (queue_name);
CREATE INDEX idx_workers_heartbeat ON pgflow.workers (last_heartbeat_at);

CREATE TABLE pgflow.worker_functions (
  function_name text NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  debounce interval NOT NULL DEFAULT '6 seconds',
  last_invoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT worker_functions_pkey PRIMARY KEY (function_name),
  CONSTRAINT worker_functions_debounce_check CHECK (debounce >= '1 second')
);

CREATE TABLE pgflow.step_tasks (
  flow_slug text NOT NULL,
  run_id uuid NOT NULL,
  step_slug text NOT NULL,
  message_id bigint,
  task_index int NOT NULL DEFAULT 0,
  status text NOT NULL DEFAULT 'queued',
  attempts_count int NOT NULL DEFAULT 0,
  error_message text,
  output jsonb,
  queued_at timestamptz NOT NULL DEFAULT now(),
  completed_at timestamptz,
  failed_at timestamptz,
  started_at timestamptz,
  last_worker_id uuid,
  requeued_count int NOT NULL DEFAULT 0,
  last_requeued_at timestamptz,
  permanently_stalled_at timestamptz,
  CONSTRAINT step_tasks_pkey PRIMARY KEY (run_id, step_slug, task_index),
  CONSTRAINT step_tasks_flow_slug_fkey FOREIGN KEY (flow_slug) REFERENCES pgflow.flows (flow_slug),
  CONSTRAINT step_tasks_run_id_fkey FOREIGN KEY (run_id) REFERENCES pgflow.runs (run_id),
  CONSTRAINT step_tasks_run_id_step_slug_fkey
    FOREIGN KEY (run_id, step_slug) REFERENCES pgflow.step_states (run_id, step_slug),
  CONSTRAINT step_tasks_last_worker_id_fkey
    FOREIGN KEY (last_worker_id) REFERENCES pgflow.workers (worker_id) ON DELETE SET NULL,
  CONSTRAINT valid_status CHECK (status IN ('queued', 'started', 'completed', 'failed', 'skipped')),
  CONSTRAINT output_valid_only_for_completed CHECK (output IS NULL OR status IN ('completed', 'failed')),
  CONSTRAINT attempts_count_nonnegative CHECK (attempts_count >= 0),
  CONSTRAINT completed_at_or_failed_at CHECK (NOT (completed_at IS NOT NULL AND failed_at IS NOT NULL)),
  CONSTRAINT completed_at_is_after_queued_at CHECK (completed_at IS NULL OR completed_at >= queued_at),
  CONSTRAINT failed_at_is_after_queued_at CHECK (failed_at IS NULL OR failed_at >= queued_at),
  CONSTRAINT started_at_is_after_queued_at CHECK (started_at IS NULL OR started_at >= queued_at),
  CONSTRAINT completed_at_is_after_started_at
    CHECK (completed_at IS NULL OR started_at IS NULL OR completed_at >= started_at),
  CONSTRAINT failed_at_is_after_started_at
    CHECK (failed_at IS NULL OR started_at IS NULL OR failed_at >= started_at)
);
-- PostgreSQL 18 may skip through an index whose first column is not asked for. With few flows it took the one by flow,
-- run and step for a task's key, and read all tasks of the step for each of them (seen: 320,000 rows for a batch of 12,
-- in tables that had been emptied). So the planner is told that flows are many.
ALTER TABLE pgflow.step_tasks ALTER COLUMN flow_slug SET (n_distinct = -1);
CREATE INDEX idx_step_tasks_message_id ON pgflow.step_tasks (message_id);
CREATE INDEX idx_step_tasks_queued_msg ON pgflow.step_tasks (message_id) WHERE status = 'queued';
CREATE INDEX idx_step_tasks_queued ON pgflow.step_tasks (run_id, step_slug) WHERE status = 'queued';
CREATE INDEX idx_step_tasks_completed ON pgflow.step_tasks (run_id, step_slug) WHERE status = 'completed';
CREATE INDEX idx_step_tasks_failed ON pgflow.step_tasks (run_id, step_slug) WHERE status = 'failed';
CREATE INDEX idx_step_tasks_flow_run_step ON pgflow.step_tasks (flow_slug, run_id, step_slug);
CREATE INDEX idx_step_tasks_started ON pgflow.step_tasks (started_at) WHERE status = 'started';
CREATE INDEX idx_step_tasks_last_worker ON pgflow.step_tasks (last_worker_id) WHERE status = 'started';

-- Ours: which version of the schema this is, and what its tables looked like when it was installed, by object.
CREATE TABLE pgflow.schema_versions (
  version int NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT now(),
  installed_by text NOT NULL,
  table_definitions jsonb NOT NULL,
  CONSTRAINT schema_versions_pkey PRIMARY KEY (version)
);

-- What start_tasks returns; the order of the attributes is the contract's.
CREATE TYPE pgflow.step_task_record AS (
  flow_slug text,
  run_id uuid,
  step_slug text,
  input jsonb,
  msg_id bigint,
  task_index int,
  flow_input jsonb
);

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

-- What the schema looks like: each column, constraint and index by its name, each function but for its body. For
-- verifying, and for telling at an upgrade which functions are ours.
CREATE FUNCTION pgflow._definitions()
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  WITH relation AS (
    SELECT c.oid, c.relname, c.relkind
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = 'pgflow'::regnamespace
  ),
  definition (name, text) AS (
    SELECT
      format('column pgflow.%s.%s', r.relname, a.attname),
      format(
        '%s%s %s',
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' NOT NULL' END,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid)
      )
    FROM relation AS r
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'c')
    UNION ALL
    SELECT format('constraint pgflow.%s.%s', r.relname, k.conname), pg_catalog.pg_get_constraintdef(k.oid)
    FROM relation AS r
    JOIN pg_catalog.pg_constraint AS k ON k.conrelid = r.oid
    WHERE k.contype <> 'n'  -- PostgreSQL 18 lists NOT NULL here too; it is part of the column
    UNION ALL
    SELECT format('index pgflow.%s', r.relname), pg_catalog.pg_get_indexdef(r.oid)
    FROM relation AS r
    WHERE r.relkind = 'i'
    UNION ALL
    (
      -- Of several functions with one name the oldest is ours.
      SELECT DISTINCT ON (p.proname)
        format('declaration of function pgflow.%s', p.proname),
        format(
          '(%s) RETURNS %s, volatility %s, security %s%s',
          pg_catalog.pg_get_function_arguments(p.oid),
          pg_catalog.pg_get_function_result(p.oid),
          p.provolatile,
          CASE WHEN p.prosecdef THEN 'definer' ELSE 'invoker' END,
          '; ' || pg_catalog.array_to_string(p.proconfig, ', ')
        )
      FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = 'pgflow'::regnamespace
      ORDER BY p.proname, p.oid
    )
  )
  SELECT jsonb_object_agg(definition.name, definition.text) FROM definition
$$;

-- Refuse arguments that are not all as long as the first one: what is missing at an end would be taken for NULL, and a task
-- would complete without its output. A length of NULL says that the array is not given, as array_agg makes it of no tasks.
CREATE FUNCTION pgflow._check_lengths(function_name text, argument_names text[], lengths int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  FOR i IN 2 .. cardinality(lengths) LOOP
    IF coalesce(lengths[i], 0) <> coalesce(lengths[1], 0) THEN
      RAISE EXCEPTION '%(): % %, but % %',
        function_name,
        coalesce(lengths[1]::text, 'no'), argument_names[1],
        coalesce(lengths[i]::text, 'no'), argument_names[i];
    END IF;
  END LOOP;
END
$$;

-- Define a flow and its queue. An existing flow is returned as it is.
CREATE FUNCTION pgflow.create_flow(
  flow_slug text,
  max_attempts int DEFAULT NULL,
  base_delay int DEFAULT NULL,
  timeout int DEFAULT NULL
)
RETURNS pgflow.flows
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  sharing text;
  flow pgflow.flows;
BEGIN
  INSERT INTO pgflow.flows (flow_slug, opt_max_attempts, opt_base_delay, opt_timeout)
  VALUES (
    create_flow.flow_slug,
    coalesce(create_flow.max_attempts, 3),
    coalesce(create_flow.base_delay, 5),
    coalesce(create_flow.timeout, 60)
  )
  ON CONFLICT DO NOTHING;

  IF NOT EXISTS (SELECT FROM pgmq.list_queues() AS q WHERE q.queue_name = create_flow.flow_slug) THEN
    IF length(create_flow.flow_slug) > 47 THEN
      RAISE EXCEPTION 'queue name is too long, maximum length is 48 characters'
        USING
          DETAIL = format(
            'The queue of flow %s would have its %s characters.', create_flow.flow_slug, length(create_flow.flow_slug)
          ),
          HINT = 'Give the flow a slug of at most 47 characters.';
    END IF;

    -- pgmq lower-cases its tables' names: flows that differ only in case would share one queue.
    PERFORM pg_advisory_xact_lock(2, hashtext(lower(create_flow.flow_slug)));
    SELECT q.queue_name INTO sharing
    FROM pgmq.list_queues() AS q
    WHERE lower(q.queue_name) = lower(create_flow.flow_slug);
    IF sharing <> create_flow.flow_slug THEN
      RAISE EXCEPTION 'Flow % cannot be created: it would share its queue with %, which differs only in case',
        create_flow.flow_slug, sharing
        USING HINT = 'Give the flow another slug.';
    END IF;
    PERFORM pgmq.create(create_flow.flow_slug);
  END IF;

  SELECT * INTO flow FROM pgflow.flows AS f WHERE f.flow_slug = create_flow.flow_slug;
  RETURN flow;
END
$$;

-- Append a step to a flow. An existing step is returned as it is, and so are its dependencies.
CREATE FUNCTION pgflow.add_step(
  flow_slug text,
  step_slug text,
  deps_slugs text[] DEFAULT '{}',
  max_attempts int DEFAULT NULL,
  base_delay int DEFAULT NULL,
  timeout int DEFAULT NULL,
  start_delay int DEFAULT NULL,
  step_type text DEFAULT 'single',
  required_input_pattern jsonb DEFAULT NULL,
  forbidden_input_pattern jsonb DEFAULT NULL,
  when_unmet text DEFAULT 'skip',
  when_exhausted text DEFAULT 'fail'
)
RETURNS pgflow.steps
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  step pgflow.steps;
  dep_slugs CONSTANT text[] := ARRAY(SELECT DISTINCT d.slug FROM unnest(add_step.deps_slugs) AS d (slug));
BEGIN
  IF add_step.step_type = 'map' AND cardinality(dep_slugs) > 1 THEN
    RAISE EXCEPTION 'Map step "%" can have at most one dependency, but % were provided: %',
      add_step.step_slug, cardinality(add_step.deps_slugs), array_to_string(add_step.deps_slugs, ', ');
  END IF;

  -- One step at a time gets the flow's next index.
  PERFORM FROM pgflow.flows AS f WHERE f.flow_slug = add_step.flow_slug FOR NO KEY UPDATE;

  INSERT INTO pgflow.steps (
    flow_slug, step_slug, step_type, step_index, deps_count,
    opt_max_attempts, opt_base_delay, opt_timeout, opt_start_delay,
    required_input_pattern, forbidden_input_pattern, when_unmet, when_exhausted
  )
  SELECT
    add_step.flow_slug,
    add_step.step_slug,
    coalesce(add_step.step_type, 'single'),
    coalesce((SELECT max(s.step_index) + 1 FROM pgflow.steps AS s WHERE s.flow_slug = add_step.flow_slug), 0),
    cardinality(dep_slugs),
    add_step.max_attempts, add_step.base_delay, add_step.timeout, add_step.start_delay,
    add_step.required_input_pattern, add_step.forbidden_input_pattern,
    add_step.when_unmet, add_step.when_exhausted
  ON CONFLICT ON CONSTRAINT steps_pkey DO NOTHING;

  -- Only for a new step: dependencies added to an existing one would disagree with its deps_count.
  IF FOUND THEN
    INSERT INTO pgflow.deps (flow_slug, dep_slug, step_slug)
    SELECT add_step.flow_slug, d.slug, add_step.step_slug
    FROM unnest(dep_slugs) AS d (slug);
  END IF;

  SELECT * INTO step
  FROM pgflow.steps AS s
  WHERE s.flow_slug = add_step.flow_slug AND s.step_slug = add_step.step_slug;
  RETURN step;
END
$$;

-- Delete a flow with its queue and everything that its runs left. In the order of locks, so the queue goes last.
--
-- Who starts a run shares the first lock, so that no run comes while the others go: those that are being started are waited
-- for and deleted too, later ones find the flow gone. The flow's row would not do for that: who completes a task holds the
-- run and then looks at that row, because new tasks refer to it.
CREATE FUNCTION pgflow.delete_flow_and_data(p_flow_slug text)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4, hashtext(p_flow_slug));
  PERFORM FROM pgflow.runs AS r WHERE r.flow_slug = p_flow_slug ORDER BY r.run_id FOR UPDATE;
  DELETE FROM pgflow.task_attempts AS a
  WHERE a.run_id IN (SELECT r.run_id FROM pgflow.runs AS r WHERE r.flow_slug = p_flow_slug);
  DELETE FROM pgflow.step_tasks AS t WHERE t.flow_slug = p_flow_slug;
  DELETE FROM pgflow.step_states AS s WHERE s.flow_slug = p_flow_slug;
  DELETE FROM pgflow.runs AS r WHERE r.flow_slug = p_flow_slug;
  DELETE FROM pgflow.deps AS d WHERE d.flow_slug = p_flow_slug;
  DELETE FROM pgflow.steps AS s WHERE s.flow_slug = p_flow_slug;
  DELETE FROM pgflow.flows AS f WHERE f.flow_slug = p_flow_slug;
  PERFORM pgmq.drop_queue(p_flow_slug);
END
$$;

-- Whether this is a developer's Supabase, known by its published secret: there, changed flows are recompiled.
CREATE FUNCTION pgflow.is_local()
RETURNS boolean
LANGUAGE sql
STABLE
PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT coalesce(
    current_setting('app.settings.jwt_secret', true)
      = 'super-secret-jwt-token-with-at-least-32-characters-long',
    false
  )
$$;

-- A condition's pattern as shapes write it.
CREATE FUNCTION pgflow._pattern_shape(p_pattern jsonb)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN p_pattern IS NULL THEN '{"defined": false}'::jsonb
    ELSE jsonb_build_object('defined', true, 'value', p_pattern)
  END
$$;

-- The pattern in a shape's wrapper; NULL when it is absent or not defined.
CREATE FUNCTION pgflow._pattern_of_shape(p_wrapper jsonb)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN (p_wrapper ->> 'defined')::boolean THEN p_wrapper -> 'value' END
$$;

-- A flow's shape as it is in the database, for comparison with the code's.
CREATE FUNCTION pgflow._get_flow_shape(p_flow_slug text)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'steps',
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'slug', s.step_slug,
          'stepType', s.step_type,
          'dependencies', (
            SELECT coalesce(jsonb_agg(d.dep_slug ORDER BY d.dep_slug), '[]'::jsonb)
            FROM pgflow.deps AS d
            WHERE d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
          ),
          'whenUnmet', s.when_unmet,
          'whenExhausted', s.when_exhausted,
          'requiredInputPattern', pgflow._pattern_shape(s.required_input_pattern),
          'forbiddenInputPattern', pgflow._pattern_shape(s.forbidden_input_pattern)
        )
        ORDER BY s.step_index
      ),
      '[]'::jsonb
    )
  )
  FROM pgflow.steps AS s
  WHERE s.flow_slug = p_flow_slug
$$;

-- Ours: let the tasks of a step complete with {"$error": ...} as their output once their attempts are spent, so that one
-- bad element does not end a map and its dependents see which elements failed; or let it be as when_exhausted says.
CREATE FUNCTION pgflow.record_failures(flow_slug text, step_slug text, is_on boolean DEFAULT true)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF is_on THEN
    INSERT INTO pgflow.recording_steps (flow_slug, step_slug)
    VALUES (record_failures.flow_slug, record_failures.step_slug)
    ON CONFLICT ON CONSTRAINT recording_steps_pkey DO NOTHING;
  ELSE
    DELETE FROM pgflow.recording_steps AS r
    WHERE r.flow_slug = record_failures.flow_slug AND r.step_slug = record_failures.step_slug;
  END IF;
END
$$;

-- Let those steps of a flow record failures whose options in the shape say so, and no others.
CREATE FUNCTION pgflow._record_failures_of_shape(p_flow_slug text, p_shape jsonb)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT pgflow.record_failures(
    p_flow_slug, e.step ->> 'slug', coalesce(e.step #> '{options,recordFailures}' = 'true', false)
  )
  FROM jsonb_array_elements(p_shape -> 'steps') AS e (step)
$$;

-- Define a flow and its steps from a shape.
CREATE FUNCTION pgflow._create_flow_from_shape(p_flow_slug text, p_shape jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow.create_flow(
    flow_slug => p_flow_slug,
    max_attempts => (p_shape #>> '{options,maxAttempts}')::int,
    base_delay => (p_shape #>> '{options,baseDelay}')::int,
    timeout => (p_shape #>> '{options,timeout}')::int
  );

  PERFORM pgflow.add_step(
    flow_slug => p_flow_slug,
    step_slug => step.shape ->> 'slug',
    deps_slugs => ARRAY(SELECT jsonb_array_elements_text(step.shape -> 'dependencies')),
    max_attempts => (step.shape #>> '{options,maxAttempts}')::int,
    base_delay => (step.shape #>> '{options,baseDelay}')::int,
    timeout => (step.shape #>> '{options,timeout}')::int,
    start_delay => (step.shape #>> '{options,startDelay}')::int,
    step_type => step.shape ->> 'stepType',
    required_input_pattern => pgflow._pattern_of_shape(step.shape -> 'requiredInputPattern'),
    forbidden_input_pattern => pgflow._pattern_of_shape(step.shape -> 'forbiddenInputPattern'),
    when_unmet => coalesce(step.shape ->> 'whenUnmet', 'skip'),
    when_exhausted => coalesce(step.shape ->> 'whenExhausted', 'fail')
  )
  FROM (
    SELECT e.shape
    FROM jsonb_array_elements(p_shape -> 'steps') WITH ORDINALITY AS e (shape, position)
    ORDER BY e.position
  ) AS step;
  PERFORM pgflow._record_failures_of_shape(p_flow_slug, p_shape);
END
$$;

-- How two shapes differ, in words; empty when they do not. Steps are compared by position. A key that is missing on one
-- side is no difference, except for the patterns.
CREATE FUNCTION pgflow._compare_flow_shapes(p_local jsonb, p_db jsonb)
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  WITH step AS (
    SELECT
      coalesce(l.position, d.position) - 1 AS index,
      l.shape AS local,
      d.shape AS db,
      (
        SELECT string_agg(a.slug, ', ' ORDER BY a.slug)
        FROM jsonb_array_elements_text(l.shape -> 'dependencies') AS a (slug)
      ) AS local_dependencies,
      (
        SELECT string_agg(a.slug, ', ' ORDER BY a.slug)
        FROM jsonb_array_elements_text(d.shape -> 'dependencies') AS a (slug)
      ) AS db_dependencies
    FROM jsonb_array_elements(p_local -> 'steps') WITH ORDINALITY AS l (shape, position)
    FULL JOIN jsonb_array_elements(p_db -> 'steps') WITH ORDINALITY AS d (shape, position)
      ON d.position = l.position
  ),
  difference (index, field, text) AS (
    SELECT
      step.index,
      0,
      CASE
        WHEN step.local IS NULL THEN format('missing in first shape (second has ''%s'')', step.db ->> 'slug')
        ELSE format('missing in second shape (first has ''%s'')', step.local ->> 'slug')
      END
    FROM step
    WHERE step.local IS NULL OR step.db IS NULL
    UNION ALL
    SELECT
      step.index,
      field.number,
      format('%s differs ''%s'' vs ''%s''', field.name, step.local ->> field.key, step.db ->> field.key)
    FROM step
    CROSS JOIN (
      VALUES
        (1, 'slug', 'slug'),
        (2, 'type', 'stepType'),
        (4, 'whenUnmet', 'whenUnmet'),
        (5, 'whenExhausted', 'whenExhausted')
    ) AS field (number, name, key)
    WHERE step.local ->> field.key <> step.db ->> field.key
    UNION ALL
    SELECT
      step.index,
      3,
      format('dependencies differ [%s] vs [%s]', step.local_dependencies, step.db_dependencies)
    FROM step
    WHERE step.local IS NOT NULL
      AND step.db IS NOT NULL
      AND step.local_dependencies IS DISTINCT FROM step.db_dependencies
    UNION ALL
    SELECT
      step.index,
      field.number,
      format('%s differs ''%s'' vs ''%s''', field.key, step.local -> field.key, step.db -> field.key)
    FROM step
    CROSS JOIN (VALUES (6, 'requiredInputPattern'), (7, 'forbiddenInputPattern')) AS field (number, key)
    WHERE step.local IS NOT NULL
      AND step.db IS NOT NULL
      AND step.local -> field.key IS DISTINCT FROM step.db -> field.key
  ),
  steps (local, db) AS (
    SELECT jsonb_array_length(p_local -> 'steps'), jsonb_array_length(p_db -> 'steps')
  )
  SELECT
    (
      SELECT CASE
        WHEN steps.local <> steps.db THEN ARRAY[format('Step count differs: %s vs %s', steps.local, steps.db)]
        ELSE '{}'
      END
      FROM steps
    )
    || ARRAY(
      SELECT format('Step at index %s: %s', d.index, d.text)
      FROM difference AS d
      ORDER BY d.index, d.field
    )
$$;

-- Bring a flow's definition in the database up to the code's shape, or say how they differ. One at a time per flow.
CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb, allow_data_loss boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  differences text[];
BEGIN
  PERFORM pg_advisory_xact_lock(1, hashtext(ensure_flow_compiled.flow_slug));

  IF NOT EXISTS (SELECT FROM pgflow.flows AS f WHERE f.flow_slug = ensure_flow_compiled.flow_slug) THEN
    PERFORM pgflow._create_flow_from_shape(ensure_flow_compiled.flow_slug, shape);
    RETURN jsonb_build_object('status', 'compiled', 'differences', '[]'::jsonb);
  END IF;

  differences := pgflow._compare_flow_shapes(shape, pgflow._get_flow_shape(ensure_flow_compiled.flow_slug));
  IF differences = '{}' THEN
    RETURN jsonb_build_object('status', 'verified', 'differences', '[]'::jsonb);
  END IF;
  IF NOT (coalesce(allow_data_loss, false) OR pgflow.is_local()) THEN
    RETURN jsonb_build_object('status', 'mismatch', 'differences', to_jsonb(differences));
  END IF;
  PERFORM pgflow.delete_flow_and_data(ensure_flow_compiled.flow_slug);
  PERFORM pgflow._create_flow_from_shape(ensure_flow_compiled.flow_slug, shape);
  RETURN jsonb_build_object('status', 'recompiled', 'differences', to_jsonb(differences));
END
$$;

-- How the options of a flow and its steps differ from those of a shape, in words: present -> wanted. An option that the shape
-- does not name has its default.
CREATE FUNCTION pgflow._option_differences(p_flow_slug text, p_shape jsonb)
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT coalesce(
    array_agg(
      format(
        '%s%s: %s -> %s',
        'step ' || o.step_slug || ': ', o.name, coalesce(o.present, o.fallback), coalesce(o.wanted, o.fallback)
      )
      ORDER BY o.step_index, o.position
    ),
    '{}'
  )
  FROM (
    SELECT NULL AS step_slug, -1 AS step_index, v.*, NULL AS fallback
    FROM pgflow.flows AS f
    CROSS JOIN LATERAL (
      VALUES
        (1, 'max_attempts', f.opt_max_attempts::text, coalesce(p_shape #>> '{options,maxAttempts}', '3')),
        (2, 'base_delay', f.opt_base_delay::text, coalesce(p_shape #>> '{options,baseDelay}', '5')),
        (3, 'timeout', f.opt_timeout::text, coalesce(p_shape #>> '{options,timeout}', '60'))
    ) AS v (position, name, present, wanted)
    WHERE f.flow_slug = p_flow_slug
    UNION ALL
    SELECT s.step_slug, s.step_index, v.*
    FROM jsonb_array_elements(p_shape -> 'steps') AS e (step)
    JOIN pgflow.steps AS s ON s.flow_slug = p_flow_slug AND s.step_slug = e.step ->> 'slug'
    CROSS JOIN LATERAL (
      VALUES
        (1, 'max_attempts', s.opt_max_attempts::text, e.step #>> '{options,maxAttempts}', 'the flow''s'),
        (2, 'base_delay', s.opt_base_delay::text, e.step #>> '{options,baseDelay}', 'the flow''s'),
        (3, 'timeout', s.opt_timeout::text, e.step #>> '{options,timeout}', 'the flow''s'),
        (4, 'start_delay', s.opt_start_delay::text, e.step #>> '{options,startDelay}', 'none'),
        (
          5,
          'when_exhausted',
          (
            SELECT 'record' FROM pgflow.recording_steps AS r
            WHERE r.flow_slug = s.flow_slug AND r.step_slug = s.step_slug
          ),
          CASE WHEN (e.step #> '{options,recordFailures}') = 'true' THEN 'record' END,
          s.when_exhausted
        )
    ) AS v (position, name, present, wanted, fallback)
  ) AS o
  WHERE o.present IS DISTINCT FROM o.wanted
$$;

-- Ours: bring the options of a flow and its steps up to those of a shape, which the contract leaves as they were when the
-- flow was created. Returns what changed, in words.
CREATE FUNCTION pgflow.update_flow_options(flow_slug text, shape jsonb)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  changes text[];
BEGIN
  IF jsonb_typeof(shape -> 'steps') IS DISTINCT FROM 'array' THEN
    RAISE EXCEPTION 'update_flow_options(): the shape of flow % has no array of steps: %', flow_slug, shape;
  END IF;
  PERFORM pg_advisory_xact_lock(1, hashtext(update_flow_options.flow_slug));
  IF NOT EXISTS (SELECT FROM pgflow.flows AS f WHERE f.flow_slug = update_flow_options.flow_slug) THEN
    RAISE EXCEPTION 'update_flow_options(): there is no flow %', flow_slug;
  END IF;

  changes := pgflow._option_differences(flow_slug, shape);
  IF changes = '{}' THEN
    RETURN changes;
  END IF;

  UPDATE pgflow.flows AS f
  SET
    opt_max_attempts = coalesce((shape #>> '{options,maxAttempts}')::int, 3),
    opt_base_delay = coalesce((shape #>> '{options,baseDelay}')::int, 5),
    opt_timeout = coalesce((shape #>> '{options,timeout}')::int, 60)
  WHERE f.flow_slug = update_flow_options.flow_slug;

  UPDATE pgflow.steps AS s
  SET
    opt_max_attempts = (e.step #>> '{options,maxAttempts}')::int,
    opt_base_delay = (e.step #>> '{options,baseDelay}')::int,
    opt_timeout = (e.step #>> '{options,timeout}')::int,
    opt_start_delay = (e.step #>> '{options,startDelay}')::int
  FROM jsonb_array_elements(shape -> 'steps') AS e (step)
  WHERE s.flow_slug = update_flow_options.flow_slug AND s.step_slug = e.step ->> 'slug';

  PERFORM pgflow._record_failures_of_shape(update_flow_options.flow_slug, shape);
  RETURN changes;
END
$$;

-- Tell workers that wait for tasks of these flows that there may be some. Who has been told does not wait any more until it
-- has looked and found nothing, so a burst of thousands of messages does not send thousands of notifications; while nobody
-- waits none is sent.
--
-- The lock is shared by all who queue tasks, for the rest of their transactions. A worker begins to wait only where nobody
-- holds it: so either its next look finds the tasks, or whoever queued them finds the worker waiting (await_tasks). Whose
-- transaction does not see what happens meanwhile tells in any case.
CREATE FUNCTION pgflow._wake_workers(flow_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT DISTINCT f.slug FROM unnest(flow_slugs) AS f (slug) ORDER BY f.slug
  LOOP
    PERFORM pg_advisory_xact_lock_shared(3, hashtext(queue.slug));
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      PERFORM pg_notify('pgflow_tasks', queue.slug);
    ELSIF EXISTS (SELECT FROM pgflow.waiting_workers AS w WHERE w.flow_slug = queue.slug) THEN
      PERFORM pg_notify('pgflow_tasks', queue.slug);
      -- Rows that another transaction is deleting are left to it; until it commits, others tell too.
      DELETE FROM pgflow.waiting_workers AS w
      WHERE w.ctid = ANY(
        ARRAY(SELECT k.ctid FROM pgflow.waiting_workers AS k WHERE k.flow_slug = queue.slug FOR UPDATE SKIP LOCKED)
      );
    END IF;
  END LOOP;
END
$$;

-- Set the visibility of several messages of one queue, each its own; returns the messages that are there.
CREATE FUNCTION pgflow.set_vt_batch(queue_name text, msg_ids bigint[], vt_offsets int[])
RETURNS TABLE (
  msg_id bigint, read_ct int, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb
)
LANGUAGE plpgsql
AS $$
BEGIN
  IF msg_ids IS NULL OR vt_offsets IS NULL THEN
    RETURN;
  END IF;
  IF cardinality(msg_ids) <> cardinality(vt_offsets) THEN
    RAISE EXCEPTION 'msg_ids length (%) must equal vt_offsets length (%)',
      cardinality(msg_ids), cardinality(vt_offsets);
  END IF;
  RETURN QUERY EXECUTE format(
    $query$
      UPDATE pgmq.%I AS q
      SET vt = clock_timestamp() + make_interval(secs => w.vt_offset)
      FROM unnest($1, $2) AS w (msg_id, vt_offset)
      -- Said twice, so that it goes by key in whichever order the planner joins.
      WHERE q.msg_id = ANY($1) AND q.msg_id = w.msg_id
      RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message, q.headers
    $query$,
    pgmq.format_table_name(queue_name, 'q')
  ) USING msg_ids, vt_offsets;
END
$$;

-- Seconds until the next attempt: base * 2^attempts, clamped to what an int holds. Not in SQL, which would be planned anew
-- in every statement that calls it.
CREATE FUNCTION pgflow.calculate_retry_delay(base_delay numeric, attempts_count int)
RETURNS int
LANGUAGE plpgsql
IMMUTABLE
PARALLEL SAFE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  delay numeric := floor(base_delay * power(2::numeric, CASE WHEN attempts_count > 64 THEN 64 ELSE attempts_count END));
BEGIN
  RETURN CASE WHEN delay > 2147483647 THEN 2147483647 ELSE delay END;
END
$$;

-- Archive messages of several flows' queues; one call of pgmq for each flow. Or delete them, where the database says so:
-- ALTER DATABASE name SET pgflow.finished_messages = 'delete'. What they say is in step_tasks, too. Messages that are not
-- there are no error, and neither is a queue that somebody has dropped: its flow's runs end all the same.
CREATE FUNCTION pgflow._archive_messages(flow_slugs text[], message_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  is_kept CONSTANT boolean := coalesce(current_setting('pgflow.finished_messages', true) <> 'delete', true);
BEGIN
  PERFORM removed.message_id
  FROM (
    SELECT m.flow_slug, array_agg(m.message_id ORDER BY m.message_id) AS message_ids
    FROM unnest(_archive_messages.flow_slugs, _archive_messages.message_ids) AS m (flow_slug, message_id)
    WHERE m.message_id IS NOT NULL
    GROUP BY m.flow_slug
    ORDER BY m.flow_slug
    OFFSET 0  -- looked for once a flow, not once a message
  ) AS q
  CROSS JOIN LATERAL (
    SELECT pgmq.archive(q.flow_slug, q.message_ids) AS message_id WHERE is_kept
    UNION ALL
    SELECT pgmq.delete(q.flow_slug, q.message_ids) WHERE NOT is_kept
  ) AS removed
  WHERE to_regclass(format('pgmq.%I', pgmq.format_table_name(q.flow_slug, 'q'))) IS NOT NULL;
END
$$;

-- Make messages of several flows' queues visible that many seconds from now() each; one statement for each flow. Workers
-- that wait learn of it, of delays too: they know when the next one ends.
CREATE FUNCTION pgflow._delay_messages(flow_slugs text[], message_ids bigint[], delays int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT m.slug, array_agg(m.id) AS ids, array_agg(m.delay) AS delays
    FROM unnest(flow_slugs, message_ids, _delay_messages.delays) AS m (slug, id, delay)
    GROUP BY m.slug
    ORDER BY m.slug
  LOOP
    EXECUTE format(
      $query$
        UPDATE pgmq.%I AS q
        SET vt = now() + make_interval(secs => m.delay)
        FROM unnest($1, $2) AS m (id, delay)
        -- Said twice, so that it goes by key in whichever order the planner joins.
        WHERE q.msg_id = ANY($1) AND q.msg_id = m.id
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) USING queue.ids, queue.delays;
  END LOOP;
  PERFORM pgflow._wake_workers(flow_slugs);
END
$$;

-- Archive the message of one task, if it has one.
CREATE FUNCTION pgflow._archive_task_message(p_run_id uuid, p_step_slug text, p_task_index int)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = p_run_id AND t.step_slug = p_step_slug AND t.task_index = p_task_index
$$;

-- Attempts that go on although their task's run or step has ended are over: nothing that comes of them counts.
CREATE FUNCTION pgflow._record_cancelled_attempts(run_ids uuid[], step_slugs text[], task_indexes int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO pgflow.task_attempts (
    run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at
  )
  SELECT
    t.run_id, t.step_slug, t.task_index, t.attempts_count, 'cancelled', t.last_worker_id, t.started_at,
    greatest(now(), t.started_at)
  FROM unnest(run_ids, step_slugs, task_indexes) AS b (run_id, step_slug, task_index)
  CROSS JOIN LATERAL (
    SELECT t.*
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t
  WHERE t.status = 'started' AND t.permanently_stalled_at IS NULL;
END
$$;

-- Archive the messages of all tasks of runs that have not ended: nobody shall start them any more, and what those that run
-- come to does not count.
CREATE FUNCTION pgflow._archive_open_messages(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  open record;
BEGIN
  SELECT
    array_agg(t.run_id) FILTER (WHERE t.status = 'started') AS run_ids,
    array_agg(t.step_slug) FILTER (WHERE t.status = 'started') AS step_slugs,
    array_agg(t.task_index) FILTER (WHERE t.status = 'started') AS task_indexes,
    array_agg(t.flow_slug) AS flow_slugs,
    array_agg(t.message_id) AS message_ids
  INTO open
  FROM (
    SELECT t.run_id, t.step_slug, t.task_index, t.status, t.flow_slug, t.message_id
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = ANY(_archive_open_messages.run_ids) AND t.status IN ('queued', 'started')
    ORDER BY t.run_id, t.step_slug, t.task_index
    FOR UPDATE
  ) AS t;

  PERFORM pgflow._record_cancelled_attempts(open.run_ids, open.step_slugs, open.task_indexes);
  PERFORM pgflow._archive_messages(open.flow_slugs, open.message_ids);
END
$$;

-- Lock messages of several flows' queues, but those that somebody else has locked; returns the positions of those that are
-- locked now, and their flows. Who locks them like this waits for nobody, and so may come without the tasks locked.
CREATE FUNCTION pgflow._lock_messages(flow_slugs text[], message_ids bigint[], positions int[])
RETURNS TABLE (flow_slug text, position_locked int)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT m.slug, array_agg(m.id) AS ids, array_agg(m.place) AS places
    FROM unnest(flow_slugs, message_ids, positions) AS m (slug, id, place)
    GROUP BY m.slug
  LOOP
    RETURN QUERY EXECUTE format(
      $query$
        SELECT $1, m.place
        FROM unnest($2, $3) AS m (id, place)
        JOIN pgmq.%I AS q ON q.msg_id = m.id
        FOR UPDATE OF q SKIP LOCKED
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) USING queue.slug, queue.ids, queue.places;
  END LOOP;
END
$$;

-- Keep messages of several flows' queues invisible for at least that many seconds each from now.
CREATE FUNCTION pgflow._keep_messages_invisible(flow_slugs text[], message_ids bigint[], seconds int[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
BEGIN
  FOR queue IN
    SELECT m.slug, array_agg(m.id) AS ids, array_agg(m.seconds) AS seconds
    FROM unnest(flow_slugs, message_ids, _keep_messages_invisible.seconds) AS m (slug, id, seconds)
    GROUP BY m.slug
    ORDER BY m.slug
  LOOP
    EXECUTE format(
      $query$
        UPDATE pgmq.%I AS q
        SET vt = greatest(q.vt, clock_timestamp() + make_interval(secs => m.seconds))
        FROM unnest($1, $2) AS m (id, seconds)
        -- Said twice, so that it goes by key in whichever order the planner joins.
        WHERE q.msg_id = ANY($1) AND q.msg_id = m.id
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) USING queue.ids, queue.seconds;
  END LOOP;
END
$$;

-- Lock up to `quantity` messages of a queue that are visible, those first that have been so for longest, but those that
-- somebody else has locked; their ids.
--
-- By visibility, not by id as pgmq.read goes: that reads all messages which are older and not visible, those in flight and
-- those to come (measured with 100,000 of them: 13 ms a read, instead of 0.4). The time is a parameter because a volatile
-- function is no bound for an index.
CREATE FUNCTION pgflow._lock_visible_messages(p_flow_slug text, quantity int)
RETURNS bigint[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  message_ids bigint[];
BEGIN
  EXECUTE format(
    $query$
      SELECT array_agg(m.msg_id)
      FROM (
        SELECT q.msg_id FROM pgmq.%I AS q WHERE q.vt <= $1 ORDER BY q.vt LIMIT $2 FOR UPDATE SKIP LOCKED
      ) AS m
    $query$,
    pgmq.format_table_name(p_flow_slug, 'q')
  ) INTO message_ids USING clock_timestamp(), quantity;
  RETURN message_ids;
END
$$;

-- Keep messages of a queue, which the caller has locked or read, invisible for so many seconds each from now. `reads` is how
-- often each has been read that nobody has counted yet.
CREATE FUNCTION pgflow._hide_messages(p_flow_slug text, message_ids bigint[], seconds int[], reads int)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format(
    $query$
      UPDATE pgmq.%I AS q
      SET vt = clock_timestamp() + make_interval(secs => m.seconds), read_ct = q.read_ct + $3
      FROM unnest($1, $2) AS m (id, seconds)
      -- Said twice, so that it goes by key in whichever order the planner joins.
      WHERE q.msg_id = ANY($1) AND q.msg_id = m.id
    $query$,
    pgmq.format_table_name(p_flow_slug, 'q')
  ) USING message_ids, seconds, reads;
END
$$;

-- Of messages of one queue that were locked to be claimed, those that could not be started and so are visible still: archive
-- those that no task belongs to, which would come back for ever, and keep the others invisible for five seconds.
CREATE FUNCTION pgflow._set_aside_messages(p_flow_slug text, message_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  left_ids bigint[];
BEGIN
  EXECUTE format(
    'SELECT array_agg(q.msg_id) FROM pgmq.%I AS q WHERE q.msg_id = ANY($1) AND q.vt <= clock_timestamp()',
    pgmq.format_table_name(p_flow_slug, 'q')
  ) INTO left_ids USING message_ids;
  IF left_ids IS NULL THEN  -- the clock was set back
    RETURN;
  END IF;

  PERFORM pgflow._hide_messages(p_flow_slug, left_ids, array_fill(5, ARRAY[cardinality(left_ids)]), 1);
  PERFORM pgmq.archive(p_flow_slug, array_agg(m.msg_id))
  FROM unnest(left_ids) AS m (msg_id)
  WHERE NOT EXISTS (
    SELECT FROM pgflow.step_tasks AS t WHERE t.flow_slug = p_flow_slug AND t.message_id = m.msg_id
  );
END
$$;

-- Whether events go to Supabase's realtime. It is called with the rights of pgflow's owner, whoever starts a run, so it has
-- to belong to somebody who could act as the owner anyway: else who may create a schema `realtime` could become that. One
-- that the owner may not call is none.
CREATE FUNCTION pgflow._has_realtime()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  -- Mostly there is none, and this is asked whenever a step ends.
  IF to_regnamespace('realtime') IS NULL THEN
    RETURN false;
  END IF;
  RETURN EXISTS (
    SELECT
    FROM pg_namespace AS realtime
    JOIN pg_proc AS p ON p.pronamespace = realtime.oid
    JOIN pg_roles AS sender ON sender.oid = p.proowner
    JOIN pg_namespace AS n ON n.nspname = 'pgflow'
    JOIN pg_roles AS owner ON owner.oid = n.nspowner
    WHERE realtime.nspname = 'realtime'
      AND p.proname = 'send'
      AND oidvectortypes(p.proargtypes) = 'jsonb, text, text, boolean'
      AND has_schema_privilege(realtime.oid, 'USAGE')
      AND has_function_privilege(p.oid, 'EXECUTE')
      AND (
        sender.rolsuper
        OR sender.oid = owner.oid
        -- A superuser counts as a member of every role.
        OR (NOT owner.rolsuper AND pg_has_role(owner.oid, sender.oid, 'MEMBER'))
        OR sender.rolname IN ('supabase_admin', 'supabase_realtime_admin')
      )
  );
END
$$;

-- Whether anybody is told of events: Supabase's realtime, looked up at each call because it may come after pgflow, or
-- LISTEN on pgflow_events where the database says so: ALTER DATABASE name SET pgflow.events = 'notify'. That is off by
-- default, because a NOTIFY makes commits wait for each other.
CREATE FUNCTION pgflow._emits_events()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN pgflow._has_realtime() OR coalesce(current_setting('pgflow.events', true) = 'notify', false);
END
$$;

-- Send events, in the order of the arrays: through realtime, or as notifications on pgflow_events, {"event", "topic",
-- "payload"}. A notification holds less than 8,000 bytes and would fail the caller's transaction otherwise, so a longer
-- one goes without input, output, error_message and skip_reason, which are as long as somebody made them, and says
-- "truncated": true.
CREATE FUNCTION pgflow._send_events(run_ids uuid[], events text[], payloads jsonb[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF pgflow._has_realtime() THEN
    -- Dynamic, because pgflow is installed without it.
    EXECUTE $query$
      SELECT realtime.send(e.payload, e.event, 'pgflow:run:' || e.run_id, false)
      FROM unnest($1, $2, $3) AS e (run_id, event, payload)
    $query$ USING run_ids, events, payloads;
    RETURN;
  END IF;

  PERFORM pg_notify(
    'pgflow_events',
    CASE
      WHEN octet_length(n.message::text) < 8000 THEN n.message::text
      ELSE (
        jsonb_set(n.message, '{payload}', (n.message -> 'payload') - '{input,output,error_message,skip_reason}'::text[])
        || '{"truncated": true}'
      )::text
    END
  )
  FROM (
    SELECT jsonb_build_object('event', e.event, 'topic', 'pgflow:run:' || e.run_id, 'payload', e.payload) AS message
    FROM unnest(run_ids, events, payloads) AS e (run_id, event, payload)
  ) AS n;
END
$$;

-- Tell of runs that have just become `kind`: started, completed or failed. Error messages stand in the events of failed
-- runs only if they are given.
CREATE FUNCTION pgflow._emit_run_events(kind text, run_ids uuid[], error_messages text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT pgflow._emits_events() THEN
    RETURN;
  END IF;

  PERFORM pgflow._send_events(
    array_agg(e.run_id ORDER BY e.position),
    array_agg('run:' || kind ORDER BY e.position),
    array_agg(e.payload ORDER BY e.position)
  )
  FROM (
    SELECT
      b.position,
      b.run_id,
      jsonb_build_object('event_type', 'run:' || kind, 'run_id', r.run_id, 'flow_slug', r.flow_slug, 'status', r.status)
      || CASE kind
        WHEN 'started' THEN
          jsonb_build_object('input', r.input, 'remaining_steps', r.remaining_steps, 'started_at', r.started_at)
        WHEN 'completed' THEN jsonb_build_object('output', r.output, 'completed_at', r.completed_at)
        ELSE jsonb_build_object('failed_at', r.failed_at)
      END
      || CASE
        WHEN error_messages IS NULL THEN '{}'
        ELSE jsonb_build_object('error_message', b.error_message)
      END AS payload
    FROM unnest(run_ids, error_messages) WITH ORDINALITY AS b (run_id, error_message, position)
    CROSS JOIN LATERAL (SELECT r.* FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0) AS r
  ) AS e
  HAVING count(*) > 0;
END
$$;

-- Tell of steps that have just become `kind`: started, completed, failed or skipped; parents before their dependents.
-- `without_tasks` is for those that complete without a worker.
CREATE FUNCTION pgflow._emit_step_events(
  kind text, run_ids uuid[], step_slugs text[], without_tasks boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT pgflow._emits_events() THEN
    RETURN;
  END IF;

  PERFORM pgflow._send_events(
    array_agg(e.run_id ORDER BY e.run_id, e.step_index),
    array_agg('step:' || e.step_slug || ':' || kind ORDER BY e.run_id, e.step_index),
    array_agg(e.payload ORDER BY e.run_id, e.step_index)
  )
  FROM (
    SELECT
      s.run_id,
      s.step_slug,
      s.step_index,
      jsonb_build_object(
        'event_type', 'step:' || kind, 'run_id', s.run_id, 'step_slug', s.step_slug, 'status', s.status
      )
      || CASE kind
        WHEN 'started' THEN
          jsonb_build_object(
            'started_at', s.started_at, 'remaining_tasks', s.remaining_tasks, 'remaining_deps', s.remaining_deps
          )
        WHEN 'completed' THEN jsonb_build_object('output', s.output, 'completed_at', s.completed_at)
        WHEN 'failed' THEN jsonb_build_object('error_message', s.error_message, 'failed_at', s.failed_at)
        WHEN 'skipped' THEN jsonb_build_object('skip_reason', s.skip_reason, 'skipped_at', s.skipped_at)
      END
      || CASE
        WHEN without_tasks THEN
          jsonb_build_object('started_at', s.started_at, 'remaining_tasks', 0, 'remaining_deps', 0)
        WHEN kind = 'skipped' AND s.error_message IS NULL THEN jsonb_build_object('flow_slug', s.flow_slug)
        WHEN kind = 'skipped' THEN jsonb_build_object('error_message', s.error_message)
        ELSE '{}'
      END AS payload
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (
      SELECT
        s.*,
        (
          SELECT definition.step_index
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        ) AS step_index
      FROM pgflow.step_states AS s
      WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug
      OFFSET 0
    ) AS s
  ) AS e
  HAVING count(*) > 0;
END
$$;

-- Lock step states in the order of their keys. A statement of its own, so that the one which then changes them sees what
-- whoever was there before has left: by ctid alone, a row that changed meanwhile would be passed over.
CREATE FUNCTION pgflow._lock_steps(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM
  FROM (
    SELECT DISTINCT b.run_id, b.step_slug
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    ORDER BY b.run_id, b.step_slug
  ) AS b
  CROSS JOIN LATERAL (
    SELECT FROM pgflow.step_states AS s WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug FOR UPDATE
  ) AS locked;
END
$$;

-- Runs have fewer steps left, one for each mention.
CREATE FUNCTION pgflow._count_ended_steps(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.runs AS r
  SET remaining_steps = r.remaining_steps - ended.steps
  FROM (SELECT b.run_id, count(*) AS steps FROM unnest(run_ids) AS b (run_id) GROUP BY b.run_id) AS ended
  -- Said twice, so that it goes by key in whichever order the planner joins.
  WHERE r.run_id = ANY(run_ids) AND r.run_id = ended.run_id;
END
$$;

-- Steps have completed or were skipped: their dependents wait for that many fewer, and a dependent map learns how many
-- tasks it has. A skipped parent gives a map no elements.
CREATE FUNCTION pgflow._release_dependents(run_ids uuid[], step_slugs text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  released record;
BEGIN
  WITH dependent AS (
    SELECT
      parent.run_id,
      child.step_slug,
      count(*)::int AS ended,
      -- A map has one dependency, so there is one value here.
      max(
        CASE
          WHEN child.step_type <> 'map' THEN NULL
          WHEN parent.status = 'skipped' THEN 0
          WHEN parent.initial_tasks = 0 OR parent.step_type = 'map' THEN parent.initial_tasks
          WHEN jsonb_typeof(parent.output) = 'array' THEN jsonb_array_length(parent.output)
        END
      ) AS elements
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (
      SELECT
        s.flow_slug,
        s.run_id,
        s.step_slug,
        s.status,
        s.initial_tasks,
        s.output,
        (
          SELECT definition.step_type
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        ) AS step_type
      FROM pgflow.step_states AS s
      WHERE s.run_id = b.run_id AND s.step_slug = b.step_slug
      OFFSET 0
    ) AS parent
    CROSS JOIN LATERAL (
      SELECT definition.step_slug, definition.step_type
      FROM pgflow.deps AS d
      JOIN pgflow.steps AS definition
        ON definition.flow_slug = parent.flow_slug AND definition.step_slug = d.step_slug
      WHERE d.flow_slug = parent.flow_slug AND d.dep_slug = parent.step_slug
      OFFSET 0
    ) AS child
    GROUP BY parent.run_id, child.step_slug
  )
  SELECT
    array_agg(d.run_id) AS run_ids,
    array_agg(d.step_slug) AS step_slugs,
    array_agg(d.ended) AS ended,
    array_agg(d.elements) AS elements
  INTO released
  FROM dependent AS d;
  IF released.run_ids IS NULL THEN
    RETURN;
  END IF;

  PERFORM pgflow._lock_steps(released.run_ids, released.step_slugs);
  UPDATE pgflow.step_states AS s
  SET
    remaining_deps = s.remaining_deps - d.ended,
    initial_tasks = CASE WHEN d.elements = 0 THEN 0 ELSE coalesce(s.initial_tasks, d.elements) END
  FROM unnest(released.run_ids, released.step_slugs, released.ended, released.elements)
    AS d (run_id, step_slug, ended, elements)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = d.run_id AND k.step_slug = d.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid;
END
$$;

-- Fail steps, at most one of each run, and with them their runs. Nobody shall start the runs' other tasks any more, so
-- their messages are archived; their rows stay as they are. Of a type violation the run's event tells first, and without
-- the error.
CREATE FUNCTION pgflow._fail_steps(
  run_ids uuid[], step_slugs text[], error_messages text[], is_type_violation boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._lock_steps(run_ids, step_slugs);
  UPDATE pgflow.step_states AS s
  SET status = 'failed', failed_at = greatest(now(), s.created_at, s.started_at), error_message = f.error_message
  FROM unnest(run_ids, step_slugs, error_messages) AS f (run_id, step_slug, error_message)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = f.run_id AND k.step_slug = f.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid;

  UPDATE pgflow.runs AS r
  SET status = 'failed', failed_at = greatest(now(), r.started_at)
  WHERE r.run_id = ANY(run_ids);

  IF is_type_violation THEN
    PERFORM pgflow._emit_run_events('failed', run_ids);
    PERFORM pgflow._emit_step_events('failed', run_ids, step_slugs);
  ELSE
    PERFORM pgflow._emit_step_events('failed', run_ids, step_slugs);
    PERFORM pgflow._emit_run_events('failed', run_ids, error_messages);
  END IF;

  PERFORM pgflow._archive_open_messages(run_ids);
END
$$;

-- Skip those of the steps that have not ended, and with them their tasks; their messages are archived. Dependents are
-- the caller's business. Returns how many steps were skipped.
CREATE FUNCTION pgflow._skip_steps(
  run_ids uuid[], step_slugs text[], skip_reasons text[], error_messages text[] DEFAULT NULL
)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  skipped record;
  ended record;
BEGIN
  PERFORM pgflow._lock_steps(run_ids, step_slugs);
  WITH skipped_step AS (
    UPDATE pgflow.step_states AS s
    SET
      status = 'skipped',
      skip_reason = b.skip_reason,
      skipped_at = greatest(now(), s.created_at),
      error_message = b.error_message,
      remaining_tasks = NULL
    FROM unnest(run_ids, step_slugs, skip_reasons, error_messages)
      AS b (run_id, step_slug, skip_reason, error_message)
    CROSS JOIN LATERAL (
      SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug OFFSET 0
    ) AS k
    WHERE s.ctid = k.ctid AND s.status IN ('created', 'started')
    RETURNING s.run_id, s.step_slug
  )
  SELECT array_agg(s.run_id) AS run_ids, array_agg(s.step_slug) AS step_slugs INTO skipped
  FROM skipped_step AS s;
  IF skipped.run_ids IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM pgflow._emit_step_events('skipped', skipped.run_ids, skipped.step_slugs);
  PERFORM pgflow._count_ended_steps(skipped.run_ids);

  PERFORM
  FROM (
    SELECT b.run_id, b.step_slug
    FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
    ORDER BY b.run_id, b.step_slug
  ) AS b
  CROSS JOIN LATERAL (
    SELECT
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.status IN ('queued', 'started')
    ORDER BY t.task_index
    FOR UPDATE
  ) AS locked;

  PERFORM pgflow._record_cancelled_attempts(
    array_agg(t.run_id), array_agg(t.step_slug), array_agg(t.task_index)
  )
  FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
  CROSS JOIN LATERAL (
    SELECT t.run_id, t.step_slug, t.task_index
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.status = 'started'
    OFFSET 0
  ) AS t
  HAVING count(*) > 0;

  WITH skipped_task AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'skipped'
    FROM unnest(skipped.run_ids, skipped.step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.status IN ('queued', 'started')
      OFFSET 0
    ) AS k
    WHERE t.ctid = k.ctid
    RETURNING t.flow_slug, t.message_id
  )
  SELECT array_agg(t.flow_slug) AS flow_slugs, array_agg(t.message_id) AS message_ids INTO ended
  FROM skipped_task AS t;
  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);

  RETURN cardinality(skipped.run_ids);
END
$$;

-- Skip steps and everything that depends on them, however far away, where it has not ended: the steps for the reason
-- given, the others as 'dependency_skipped'. Returns how many steps were skipped.
CREATE FUNCTION pgflow._skip_steps_and_dependents(run_ids uuid[], step_slugs text[], skip_reason text)
RETURNS int
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  WITH RECURSIVE affected (flow_slug, run_id, step_slug, is_given) AS (
    SELECT r.flow_slug, b.run_id, b.step_slug, true
    FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
    CROSS JOIN LATERAL (SELECT r.flow_slug FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0) AS r
    UNION
    SELECT d.flow_slug, a.run_id, d.step_slug, false
    FROM affected AS a
    CROSS JOIN LATERAL (
      SELECT d.flow_slug, d.step_slug
      FROM pgflow.deps AS d
      WHERE d.flow_slug = a.flow_slug AND d.dep_slug = a.step_slug
      OFFSET 0
    ) AS d
  ),
  step AS (
    SELECT
      a.run_id,
      a.step_slug,
      CASE WHEN bool_or(a.is_given) THEN skip_reason ELSE 'dependency_skipped' END AS reason
    FROM affected AS a
    GROUP BY a.run_id, a.step_slug
  )
  SELECT pgflow._skip_steps(array_agg(step.run_id), array_agg(step.step_slug), array_agg(step.reason))
  FROM step
$$;

-- Skip a step and everything that depends on it; returns how many steps were skipped.
CREATE FUNCTION pgflow._cascade_force_skip_steps(run_id uuid, step_slug text, skip_reason text)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM pgflow.runs AS r WHERE r.run_id = _cascade_force_skip_steps.run_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Run not found: %', _cascade_force_skip_steps.run_id;
  END IF;
  RETURN pgflow._skip_steps_and_dependents(
    ARRAY[_cascade_force_skip_steps.run_id],
    ARRAY[_cascade_force_skip_steps.step_slug],
    _cascade_force_skip_steps.skip_reason
  );
END
$$;

-- What a dependent step works on: the outputs of its completed dependencies by slug; skipped ones have no key.
CREATE FUNCTION pgflow._dependency_outputs(p_flow_slug text, p_run_id uuid, p_step_slug text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(s.step_slug, s.output), '{}'::jsonb)
    FROM pgflow.deps AS d
    JOIN pgflow.step_states AS s ON s.run_id = p_run_id AND s.step_slug = d.dep_slug
    WHERE d.flow_slug = p_flow_slug AND d.step_slug = p_step_slug AND s.status = 'completed'
  );
END
$$;

-- Decide the conditions of steps that are ready, in runs that have not ended: a step whose input does not match its
-- patterns fails with its run, is skipped, or is skipped with everything that depends on it, as its when_unmet says.
-- Skipping makes further steps ready, so this goes on until every ready step's condition is met. Returns how many
-- steps ended here.
CREATE FUNCTION pgflow._resolve_conditions(run_ids uuid[])
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  passes int := 0;
  unmet record;
  failing record;
  skipping record;
  cascading record;
  ended int := 0;
BEGIN
  LOOP
    passes := passes + 1;
    IF passes > 50 THEN
      RAISE EXCEPTION 'cascade_resolve_conditions exceeded safety limit of 50 iterations';
    END IF;

    SELECT
      array_agg(s.run_id ORDER BY s.run_id, definition.step_index) AS run_ids,
      array_agg(s.step_slug ORDER BY s.run_id, definition.step_index) AS step_slugs,
      array_agg(definition.when_unmet ORDER BY s.run_id, definition.step_index) AS modes
    INTO unmet
    FROM pgflow.step_states AS s
    CROSS JOIN LATERAL (
      SELECT
        definition.step_index,
        definition.deps_count,
        definition.when_unmet,
        definition.required_input_pattern,
        definition.forbidden_input_pattern
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
      OFFSET 0
    ) AS definition
    CROSS JOIN LATERAL (
      SELECT
        CASE
          WHEN definition.deps_count = 0 THEN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = s.run_id)
          ELSE (  -- as _dependency_outputs has it, for all runs in this statement
            SELECT coalesce(jsonb_object_agg(parent.step_slug, parent.output), '{}'::jsonb)
            FROM pgflow.deps AS d
            CROSS JOIN LATERAL (
              SELECT p.step_slug, p.output
              FROM pgflow.step_states AS p
              WHERE p.run_id = s.run_id AND p.step_slug = d.dep_slug AND p.status = 'completed'
              OFFSET 0
            ) AS parent
            WHERE d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
          )
        END AS value
      OFFSET 0
    ) AS input
    WHERE s.run_id = ANY(run_ids)
      AND s.status = 'created'
      AND s.remaining_deps = 0
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started'
      AND (definition.required_input_pattern IS NOT NULL OR definition.forbidden_input_pattern IS NOT NULL)
      AND (
        NOT input.value @> definition.required_input_pattern
        OR input.value @> definition.forbidden_input_pattern
      );
    EXIT WHEN unmet.run_ids IS NULL;

    SELECT
      array_agg(f.run_id) AS run_ids,
      array_agg(f.step_slug) AS step_slugs,
      array_agg('Condition not met'::text) AS errors
    INTO failing
    FROM (
      SELECT DISTINCT ON (u.run_id) u.run_id, u.step_slug
      FROM unnest(unmet.run_ids, unmet.step_slugs, unmet.modes)
        WITH ORDINALITY AS u (run_id, step_slug, mode, position)
      WHERE u.mode = 'fail'
      ORDER BY u.run_id, u.position
    ) AS f;
    IF failing.run_ids IS NOT NULL THEN
      PERFORM pgflow._fail_steps(failing.run_ids, failing.step_slugs, failing.errors);
      ended := ended + cardinality(failing.run_ids);
    END IF;

    SELECT
      array_agg(u.run_id) AS run_ids,
      array_agg(u.step_slug) AS step_slugs,
      array_agg('condition_unmet'::text) AS reasons
    INTO skipping
    FROM unnest(unmet.run_ids, unmet.step_slugs, unmet.modes) AS u (run_id, step_slug, mode)
    WHERE u.mode = 'skip' AND u.run_id <> ALL(coalesce(failing.run_ids, '{}'));
    IF skipping.run_ids IS NOT NULL THEN
      ended := ended + pgflow._skip_steps(skipping.run_ids, skipping.step_slugs, skipping.reasons);
      PERFORM pgflow._release_dependents(skipping.run_ids, skipping.step_slugs);
    END IF;

    SELECT array_agg(u.run_id) AS run_ids, array_agg(u.step_slug) AS step_slugs
    INTO cascading
    FROM unnest(unmet.run_ids, unmet.step_slugs, unmet.modes) AS u (run_id, step_slug, mode)
    WHERE u.mode = 'skip-cascade' AND u.run_id <> ALL(coalesce(failing.run_ids, '{}'));
    IF cascading.run_ids IS NOT NULL THEN
      ended := ended
        + pgflow._skip_steps_and_dependents(cascading.run_ids, cascading.step_slugs, 'condition_unmet');
    END IF;

    -- Only a plain skip makes other steps ready.
    EXIT WHEN skipping.run_ids IS NULL;
  END LOOP;
  RETURN ended;
END
$$;

-- Decide the conditions of a run's ready steps; whether the run has not failed.
CREATE FUNCTION pgflow.cascade_resolve_conditions(run_id uuid)
RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._resolve_conditions(ARRAY[cascade_resolve_conditions.run_id]);
  RETURN NOT EXISTS (
    SELECT FROM pgflow.runs AS r WHERE r.run_id = cascade_resolve_conditions.run_id AND r.status = 'failed'
  );
END
$$;

-- Complete the ready steps that have no tasks, one wave of them; how many there were.
CREATE FUNCTION pgflow._complete_taskless_steps(run_ids uuid[])
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  wave record;
BEGIN
  WITH completed AS (
    UPDATE pgflow.step_states AS s
    SET
      status = 'completed',
      started_at = greatest(now(), s.created_at),
      completed_at = greatest(now(), s.created_at),
      remaining_tasks = 0,
      output = (
        SELECT '[]'::jsonb
        FROM pgflow.steps AS definition
        WHERE definition.flow_slug = s.flow_slug
          AND definition.step_slug = s.step_slug
          AND definition.step_type = 'map'
      )
    WHERE s.run_id = ANY(run_ids)
      AND s.status = 'created'
      AND s.remaining_deps = 0
      AND s.initial_tasks = 0
    RETURNING s.run_id, s.step_slug
  )
  SELECT array_agg(c.run_id) AS run_ids, array_agg(c.step_slug) AS step_slugs INTO wave
  FROM completed AS c;
  IF wave.run_ids IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM pgflow._emit_step_events('completed', wave.run_ids, wave.step_slugs, without_tasks => true);
  PERFORM pgflow._release_dependents(wave.run_ids, wave.step_slugs);
  PERFORM pgflow._count_ended_steps(wave.run_ids);
  RETURN cardinality(wave.run_ids);
END
$$;

-- Complete a run's ready steps without tasks, and those that become so, wave by wave; how many there were.
CREATE FUNCTION pgflow.cascade_complete_taskless_steps(run_id uuid)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  waves int := 0;
  wave int;
  completed int := 0;
BEGIN
  LOOP
    wave := pgflow._complete_taskless_steps(ARRAY[cascade_complete_taskless_steps.run_id]);
    EXIT WHEN wave = 0;
    waves := waves + 1;
    IF waves > 50 THEN
      RAISE EXCEPTION 'Cascade loop exceeded safety limit of 50 iterations';
    END IF;
    completed := completed + wave;
  END LOOP;
  RETURN completed;
END
$$;

-- Start the ready steps of running runs: a message and a task row for every task, the message ids ascending with the
-- task index. One statement for each flow and start delay among them.
CREATE FUNCTION pgflow._start_ready_steps(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET enable_hashjoin TO on
AS $$
DECLARE
  batch record;
BEGIN
  PERFORM
  FROM pgflow.step_states AS s
  WHERE s.run_id = ANY(_start_ready_steps.run_ids)
    AND s.status = 'created'
    AND s.remaining_deps = 0
    AND s.initial_tasks > 0
  ORDER BY s.run_id, s.step_slug
  FOR UPDATE;

  FOR batch IN
    WITH started AS (
      UPDATE pgflow.step_states AS s
      SET status = 'started', started_at = greatest(now(), s.created_at), remaining_tasks = s.initial_tasks
      WHERE s.run_id = ANY(_start_ready_steps.run_ids)
        AND s.status = 'created'
        AND s.remaining_deps = 0
        AND s.initial_tasks > 0
        AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started'
      RETURNING s.flow_slug, s.run_id, s.step_slug, s.initial_tasks
    )
    SELECT
      started.flow_slug,
      coalesce(definition.opt_start_delay, 0) AS delay,
      array_agg(started.run_id ORDER BY started.run_id, started.step_slug) AS run_ids,
      array_agg(started.step_slug ORDER BY started.run_id, started.step_slug) AS step_slugs,
      array_agg(started.initial_tasks ORDER BY started.run_id, started.step_slug) AS task_counts
    FROM started
    JOIN pgflow.steps AS definition
      ON definition.flow_slug = started.flow_slug AND definition.step_slug = started.step_slug
    GROUP BY started.flow_slug, coalesce(definition.opt_start_delay, 0)
    ORDER BY started.flow_slug, coalesce(definition.opt_start_delay, 0)
  LOOP
    PERFORM pgflow._emit_step_events('started', batch.run_ids, batch.step_slugs);

    WITH task AS (
      SELECT
        s.run_id,
        s.step_slug,
        i.task_index,
        row_number() OVER (ORDER BY s.position, i.task_index) AS position
      FROM unnest(batch.run_ids, batch.step_slugs, batch.task_counts)
        WITH ORDINALITY AS s (run_id, step_slug, task_count, position)
      CROSS JOIN LATERAL generate_series(0, s.task_count - 1) AS i (task_index)
    ),
    message AS (
      SELECT m.msg_id, m.position
      FROM pgmq.send_batch(
        batch.flow_slug,
        (
          SELECT array_agg(
            jsonb_build_object(
              'flow_slug', batch.flow_slug,
              'run_id', task.run_id,
              'step_slug', task.step_slug,
              'task_index', task.task_index
            )
            ORDER BY task.position
          )
          FROM task
        ),
        batch.delay
      ) WITH ORDINALITY AS m (msg_id, position)
    )
    INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id)
    SELECT batch.flow_slug, task.run_id, task.step_slug, task.task_index, message.msg_id
    FROM task
    JOIN message ON message.position = task.position;
    PERFORM pgflow._wake_workers(ARRAY[batch.flow_slug]);
  END LOOP;
END
$$;

-- Start the ready steps of a run that is running.
CREATE FUNCTION pgflow.start_ready_steps(run_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._start_ready_steps(ARRAY[start_ready_steps.run_id]);
END
$$;

-- Runs, which the caller holds, have `ended` steps left fewer for each mention, 1 or 0; those that have none left complete.
-- Their output is that of the completed steps nobody depends on. Returns the runs that have some left.
CREATE FUNCTION pgflow._complete_runs(run_ids uuid[], ended int)
RETURNS uuid[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  counted record;
BEGIN
  WITH counted AS (
    UPDATE pgflow.runs AS r
    SET
      remaining_steps = k.remaining_steps,
      status = CASE WHEN k.is_last THEN 'completed' ELSE r.status END,
      completed_at = CASE WHEN k.is_last THEN greatest(now(), r.started_at) ELSE r.completed_at END,
      output = CASE
        WHEN k.is_last THEN (
          SELECT jsonb_object_agg(s.step_slug, s.output)
          FROM (
            -- For itself: with statistics of a single row the planner takes the flow's index and reads all its runs.
            SELECT s.flow_slug, s.step_slug, s.output
            FROM pgflow.step_states AS s
            WHERE s.run_id = r.run_id AND s.status || '' = 'completed'
            OFFSET 0
          ) AS s
          WHERE NOT EXISTS (
              SELECT FROM pgflow.deps AS d WHERE d.flow_slug = s.flow_slug AND d.dep_slug = s.step_slug
            )
        )
        ELSE r.output
      END
    FROM (
      SELECT b.run_id, count(*) * _complete_runs.ended AS steps FROM unnest(run_ids) AS b (run_id) GROUP BY b.run_id
    ) AS b
    CROSS JOIN LATERAL (
      SELECT
        k.ctid,
        k.remaining_steps - b.steps AS remaining_steps,
        k.remaining_steps = b.steps AND k.status = 'started' AS is_last
      FROM pgflow.runs AS k
      WHERE k.run_id = b.run_id
      OFFSET 0
    ) AS k
    WHERE r.ctid = k.ctid AND (k.is_last OR b.steps > 0)
    RETURNING r.run_id, k.is_last
  )
  SELECT
    array_agg(c.run_id) FILTER (WHERE c.is_last) AS completed,
    array_agg(c.run_id) FILTER (WHERE NOT c.is_last) AS still_going
  INTO counted
  FROM counted AS c;

  IF counted.completed IS NOT NULL THEN
    PERFORM pgflow._emit_run_events('completed', counted.completed);
  END IF;
  RETURN counted.still_going;
END
$$;

-- Complete a run that has no steps left.
CREATE FUNCTION pgflow.maybe_complete_run(run_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM pgflow.runs AS r WHERE r.run_id = maybe_complete_run.run_id FOR UPDATE;
  PERFORM pgflow._complete_runs(ARRAY[maybe_complete_run.run_id], 0);
END
$$;

-- Bring runs as far as they come without a worker: decide conditions, complete steps without tasks, start what is
-- ready, complete what is finished. The caller holds the runs.
--
-- Conditions come before every single wave of steps without tasks, because each may make steps ready for the other:
-- else a step behind an empty map would start, or complete, although its condition is not met.
CREATE FUNCTION pgflow._advance_runs(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  waves int := 0;
  ready record;
BEGIN
  LOOP
    SELECT
      array_agg(DISTINCT s.run_id) AS run_ids,
      bool_or(definition.required_input_pattern IS NOT NULL OR definition.forbidden_input_pattern IS NOT NULL)
        AS has_conditions,
      bool_or(s.initial_tasks = 0) AS has_taskless
    INTO ready
    FROM pgflow.step_states AS s
    CROSS JOIN LATERAL (
      SELECT definition.required_input_pattern, definition.forbidden_input_pattern
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
      OFFSET 0
    ) AS definition
    WHERE s.run_id = ANY(_advance_runs.run_ids)
      AND s.status = 'created'
      AND s.remaining_deps = 0
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started';
    EXIT WHEN ready.run_ids IS NULL;

    CONTINUE WHEN ready.has_conditions AND pgflow._resolve_conditions(ready.run_ids) > 0;
    EXIT WHEN ready.has_taskless IS NOT TRUE;

    waves := waves + 1;
    IF waves > 50 THEN
      RAISE EXCEPTION 'Cascade loop exceeded safety limit of 50 iterations';
    END IF;
    PERFORM pgflow._complete_taskless_steps(ready.run_ids);
  END LOOP;

  IF ready.run_ids IS NOT NULL THEN
    PERFORM pgflow._start_ready_steps(ready.run_ids);
  END IF;
  IF EXISTS (
    SELECT
    FROM pgflow.runs AS r
    WHERE r.run_id = ANY(_advance_runs.run_ids) AND r.remaining_steps = 0 AND r.status || '' = 'started'
  ) THEN
    PERFORM pgflow._complete_runs(_advance_runs.run_ids, 0);
  END IF;
END
$$;

-- Start runs of one flow, everything in them that can start included; run_ids[i] gets inputs[i].
CREATE FUNCTION pgflow._start_runs(p_flow_slug text, run_ids uuid[], inputs jsonb[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  has_root_map boolean;
  unfit record;
BEGIN
  SELECT EXISTS (
    SELECT FROM pgflow.steps AS s
    WHERE s.flow_slug = p_flow_slug AND s.step_type = 'map' AND s.deps_count = 0
  ) INTO has_root_map;
  IF has_root_map THEN
    SELECT jsonb_typeof(b.input) AS type INTO unfit
    FROM unnest(inputs) AS b (input)
    WHERE jsonb_typeof(b.input) IS DISTINCT FROM 'array'
    LIMIT 1;
    IF FOUND AND unfit.type IS NULL THEN
      RAISE EXCEPTION 'Flow % has root map steps but input is NULL', p_flow_slug;
    ELSIF FOUND THEN
      RAISE EXCEPTION 'Flow % has root map steps but input is not an array (got %)', p_flow_slug, unfit.type;
    END IF;
  END IF;

  INSERT INTO pgflow.runs (run_id, flow_slug, input, remaining_steps)
  SELECT b.run_id, p_flow_slug, b.input, (SELECT count(*) FROM pgflow.steps AS s WHERE s.flow_slug = p_flow_slug)
  FROM unnest(run_ids, inputs) AS b (run_id, input)
  ORDER BY b.run_id;

  INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks)
  SELECT
    s.flow_slug,
    b.run_id,
    s.step_slug,
    s.deps_count,
    CASE
      WHEN s.step_type = 'single' THEN 1
      WHEN s.deps_count = 0 THEN jsonb_array_length(b.input)
    END
  FROM unnest(run_ids, inputs) AS b (run_id, input)
  CROSS JOIN LATERAL (
    SELECT s.flow_slug, s.step_slug, s.deps_count, s.step_type
    FROM pgflow.steps AS s
    WHERE s.flow_slug = p_flow_slug
    ORDER BY s.step_index
    OFFSET 0
  ) AS s;

  PERFORM pgflow._emit_run_events('started', run_ids);
  PERFORM pgflow._advance_runs(run_ids);
END
$$;

-- Start a run; returns its row as it is when everything that can start has started.
CREATE FUNCTION pgflow.start_flow(flow_slug text, input jsonb, run_id uuid DEFAULT NULL)
RETURNS SETOF pgflow.runs
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  new_run_id uuid := coalesce(start_flow.run_id, gen_random_uuid());
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4, hashtext(start_flow.flow_slug));  -- see delete_flow_and_data
  PERFORM pgflow._start_runs(start_flow.flow_slug, ARRAY[new_run_id], ARRAY[start_flow.input]);
  RETURN QUERY SELECT * FROM pgflow.runs AS r WHERE r.run_id = new_run_id;
END
$$;

-- Ours: start a run for each input, in a number of statements that does not grow with them; all or none. A key makes a
-- run unique among its flow's: starting with a key that was there before, or twice in the batch, gives the run that is
-- there, whatever its input was. NULL is no key. Returns a row for each input, in their order.
CREATE FUNCTION pgflow.start_flows(flow_slug text, inputs jsonb[], keys text[] DEFAULT NULL)
RETURNS TABLE (ordinal int, run_id uuid, is_new boolean)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  batch record;
  starting record;
BEGIN
  PERFORM pgflow._check_lengths(
    'start_flows',
    ARRAY['inputs', 'keys'],
    ARRAY[cardinality(inputs), coalesce(cardinality(keys), cardinality(inputs))]
  );

  -- Before anything that the flow's deletion waits for; see there.
  PERFORM pg_advisory_xact_lock_shared(4, hashtext(start_flows.flow_slug));

  -- A run id for each input; the key's second mention in the batch gets that of the first.
  SELECT array_agg(b.run_id ORDER BY b.position) AS run_ids
  INTO batch
  FROM (
    SELECT b.position, first_value(b.run_id) OVER (PARTITION BY b.key, b.mention ORDER BY b.position) AS run_id
    FROM (
      SELECT b.position, b.key, CASE WHEN b.key IS NULL THEN b.position END AS mention, gen_random_uuid() AS run_id
      FROM unnest(inputs, keys) WITH ORDINALITY AS b (input, key, position)
      OFFSET 0  -- one id for each row: first_value would make one at each look
    ) AS b
  ) AS b;

  -- In the order of keys, so that batches which share some wait for each other and never in a circle. Who waited finds
  -- the other's run in the next statement.
  WITH inserted AS (
    INSERT INTO pgflow.run_keys AS k (flow_slug, key, run_id)
    SELECT start_flows.flow_slug, b.key, b.run_id
    FROM unnest(keys, batch.run_ids) AS b (key, run_id)
    WHERE b.key IS NOT NULL
    GROUP BY b.key, b.run_id
    ORDER BY b.key
    ON CONFLICT ON CONSTRAINT run_keys_pkey DO NOTHING
    RETURNING k.run_id
  )
  SELECT array_agg(b.run_id ORDER BY b.position) AS run_ids, array_agg(b.input ORDER BY b.position) AS inputs
  INTO starting
  FROM (
    SELECT DISTINCT ON (b.run_id) b.run_id, b.input, b.position
    FROM unnest(batch.run_ids, inputs, keys) WITH ORDINALITY AS b (run_id, input, key, position)
    WHERE b.key IS NULL OR b.run_id IN (SELECT inserted.run_id FROM inserted)
    ORDER BY b.run_id, b.position
  ) AS b;

  IF starting.run_ids IS NOT NULL THEN
    PERFORM pgflow._start_runs(start_flows.flow_slug, starting.run_ids, starting.inputs);
  END IF;

  RETURN QUERY
  SELECT
    b.position::int,
    coalesce(k.run_id, b.run_id),
    coalesce(k.run_id, b.run_id) = b.run_id
      AND row_number() OVER (PARTITION BY b.run_id ORDER BY b.position) = 1
  FROM unnest(batch.run_ids, keys) WITH ORDINALITY AS b (run_id, key, position)
  LEFT JOIN LATERAL (
    SELECT k.run_id
    FROM pgflow.run_keys AS k
    WHERE k.flow_slug = start_flows.flow_slug AND k.key = b.key
    OFFSET 0
  ) AS k ON true
  ORDER BY b.position;
END
$$;

-- A run and its step states as JSON, the steps in the order of their definition; NULL when there is no such run.
CREATE FUNCTION pgflow.get_run_with_states(run_id uuid)
RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'run', to_jsonb(r),
      'steps', (
        SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY definition.step_index), '[]'::jsonb)
        FROM pgflow.step_states AS s
        JOIN pgflow.steps AS definition
          ON definition.flow_slug = s.flow_slug AND definition.step_slug = s.step_slug
        WHERE s.run_id = r.run_id
      )
    )
    FROM pgflow.runs AS r
    WHERE r.run_id = get_run_with_states.run_id
  );
END
$$;

-- Start a run; returns the run and its step states as JSON.
CREATE FUNCTION pgflow.start_flow_with_states(flow_slug text, input jsonb, run_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT pgflow.get_run_with_states(r.run_id)
    FROM pgflow.start_flow(
      start_flow_with_states.flow_slug, start_flow_with_states.input, start_flow_with_states.run_id
    ) AS r
  );
END
$$;

-- The array whose elements a map step works on: the run's input, or its dependency's output.
CREATE FUNCTION pgflow._map_elements(p_flow_slug text, p_run_id uuid, p_step_slug text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  parent_slug text;
BEGIN
  SELECT d.dep_slug INTO parent_slug
  FROM pgflow.deps AS d
  WHERE d.flow_slug = p_flow_slug AND d.step_slug = p_step_slug;

  IF parent_slug IS NULL THEN
    RETURN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = p_run_id);
  END IF;
  RETURN (
    SELECT s.output FROM pgflow.step_states AS s WHERE s.run_id = p_run_id AND s.step_slug = parent_slug
  );
END
$$;

-- Start the claimable tasks of messages of one flow, and keep each message invisible for the task's timeout and two
-- seconds; `p_reads` is as in _hide_messages. Only rows that this call changed are returned, so two concurrent claims never share a task.
--
-- A task row that somebody else has locked is passed over instead of waited for: this function comes with the queue's
-- rows locked, all others lock them last.
CREATE FUNCTION pgflow._start_tasks(p_flow_slug text, p_msg_ids bigint[], p_worker_id uuid, p_reads int)
RETURNS TABLE (
  run_id uuid, step_slug text, task_index int, attempt int, msg_id bigint, kind text, input jsonb, timeout int,
  max_attempts int, retry_delay int
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  locked record;
  claimed record;
BEGIN
  -- By message first and by flow afterwards: with statistics that do not know the flow yet, the planner takes the
  -- flow's index and reads all its tasks (seen with 2,000: 125 ms a claim instead of 5).
  SELECT
    array_agg(c.ctid) AS row_ids,
    array_agg(c.run_id) AS run_ids,
    array_agg(c.step_slug) AS step_slugs
  INTO locked
  FROM (
    SELECT t.ctid, t.run_id, t.step_slug, t.flow_slug
    FROM pgflow.step_tasks AS t
    WHERE t.message_id = ANY(p_msg_ids) AND t.flow_slug || '' = p_flow_slug AND t.status || '' = 'queued'
    FOR UPDATE SKIP LOCKED
  ) AS c;
  IF locked.row_ids IS NULL THEN
    RETURN;
  END IF;

  -- Whether run and step go on is asked with the tasks locked, once for all tasks of a step: of a run that has failed
  -- the messages are archived.
  WITH step AS (
    SELECT b.run_id, b.step_slug, array_agg(b.row_id) AS row_ids
    FROM unnest(locked.row_ids, locked.run_ids, locked.step_slugs) AS b (row_id, run_id, step_slug)
    GROUP BY b.run_id, b.step_slug
  ),
  claimable AS (
    SELECT b.row_id, state.timeout
    FROM step
    CROSS JOIN LATERAL (
      SELECT
        coalesce(
          (
            SELECT definition.opt_timeout
            FROM pgflow.steps AS definition
            WHERE definition.flow_slug = p_flow_slug AND definition.step_slug = step.step_slug
          ),
          (SELECT f.opt_timeout FROM pgflow.flows AS f WHERE f.flow_slug = p_flow_slug)
        ) AS timeout
      FROM pgflow.step_states AS s
      WHERE s.run_id = step.run_id
        AND s.step_slug = step.step_slug
        AND s.status || '' = 'started'
        AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = s.run_id) = 'started'
      OFFSET 0
    ) AS state
    CROSS JOIN LATERAL unnest(step.row_ids) AS b (row_id)
  ),
  started AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'started',
      attempts_count = t.attempts_count + 1,
      -- A task queued after this transaction began is claimed all the same.
      started_at = greatest(now(), t.queued_at),
      last_worker_id = p_worker_id
    FROM claimable AS c
    WHERE t.ctid = c.row_id
    RETURNING t.run_id, t.step_slug, t.task_index, t.attempts_count, t.message_id, c.timeout
  )
  SELECT
    array_agg(started.run_id) AS run_ids,
    array_agg(started.step_slug) AS step_slugs,
    array_agg(started.task_index) AS task_indexes,
    array_agg(started.attempts_count) AS attempts,
    array_agg(started.message_id) AS message_ids,
    -- The largest timeout that the column holds has no room for two seconds more.
    array_agg(least(started.timeout, 2147483645) + 2) AS seconds
  INTO claimed
  FROM started;

  IF claimed.run_ids IS NULL THEN
    RETURN;
  END IF;

  PERFORM pgflow._hide_messages(p_flow_slug, claimed.message_ids, claimed.seconds, p_reads);

  RETURN QUERY
  SELECT
    step.run_id,
    step.step_slug,
    task.task_index,
    task.attempt,
    task.message_id,
    step.kind,
    CASE WHEN step.kind = 'map' THEN step.input -> task.task_index ELSE step.input END,
    step.timeout,
    step.max_attempts,
    CASE WHEN task.attempt < step.max_attempts THEN pgflow.calculate_retry_delay(step.base_delay, task.attempt) END
  FROM (
    -- One row for each step, whose input is computed once for all its tasks; OFFSET 0 keeps it so. `||` detoasts an
    -- array here, and not again for every element taken from it.
    SELECT
      c.run_id,
      c.step_slug,
      c.task_indexes,
      c.attempts,
      c.message_ids,
      coalesce(definition.opt_timeout, f.opt_timeout) AS timeout,
      coalesce(definition.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
      coalesce(definition.opt_base_delay, f.opt_base_delay) AS base_delay,
      CASE
        WHEN definition.step_type = 'map' THEN 'map'
        WHEN definition.deps_count = 0 THEN 'root'
        ELSE 'dependent'
      END AS kind,
      CASE
        WHEN definition.step_type = 'map'
          THEN pgflow._map_elements(p_flow_slug, c.run_id, c.step_slug) || '[]'::jsonb
        WHEN definition.deps_count = 0 THEN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = c.run_id)
        ELSE pgflow._dependency_outputs(p_flow_slug, c.run_id, c.step_slug)
      END AS input
    FROM (
      SELECT
        b.run_id,
        b.step_slug,
        array_agg(b.task_index) AS task_indexes,
        array_agg(b.attempt) AS attempts,
        array_agg(b.message_id) AS message_ids
      FROM unnest(
        claimed.run_ids, claimed.step_slugs, claimed.task_indexes, claimed.attempts, claimed.message_ids
      ) AS b (run_id, step_slug, task_index, attempt, message_id)
      GROUP BY b.run_id, b.step_slug
    ) AS c
    JOIN pgflow.steps AS definition
      ON definition.flow_slug = p_flow_slug AND definition.step_slug = c.step_slug
    JOIN pgflow.flows AS f ON f.flow_slug = p_flow_slug
    OFFSET 0
  ) AS step
  CROSS JOIN LATERAL unnest(step.task_indexes, step.attempts, step.message_ids)
    AS task (task_index, attempt, message_id);
END
$$;

-- Start the tasks of messages that a worker has read. What cannot be started is left out. A single root step gets the
-- run's input as flow_input, every other task its own input.
CREATE FUNCTION pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
RETURNS SETOF pgflow.step_task_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
BEGIN
  RETURN QUERY
  SELECT
    start_tasks.flow_slug,
    t.run_id,
    t.step_slug,
    CASE WHEN t.kind = 'root' THEN '{}'::jsonb ELSE t.input END,
    t.msg_id,
    t.task_index,
    CASE WHEN t.kind = 'root' THEN t.input END
  FROM pgflow._start_tasks(start_tasks.flow_slug, start_tasks.msg_ids, start_tasks.worker_id, 0) AS t;
END
$$;

-- Ours: lock messages of several flows' queues and start their tasks, in one round trip; at most p_quantity tasks in all.
-- p_worker_ids[i] is the worker's row for p_flow_slugs[i]. `retry_delay` is in how many seconds the task is tried again if
-- this attempt fails; NULL for the last.
CREATE FUNCTION pgflow.claim_tasks(p_flow_slugs text[], p_worker_ids uuid[], p_quantity int)
RETURNS TABLE (
  flow_slug text, run_id uuid, step_slug text, task_index int, attempt int, msg_id bigint, kind text, input text,
  timeout int, max_attempts int, retry_delay int
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
SET enable_bitmapscan TO off
AS $$
DECLARE
  flow record;
  locked_ids bigint[];
  started bigint;
  quantity int := p_quantity;
BEGIN
  PERFORM pgflow._check_lengths(
    'claim_tasks', ARRAY['p_flow_slugs', 'p_worker_ids'], ARRAY[cardinality(p_flow_slugs), cardinality(p_worker_ids)]
  );
  IF array_position(p_worker_ids, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'claim_tasks(): p_worker_ids holds NULL, but whose tasks these are must be known';
  END IF;
  -- NULL would be the whole queue.
  IF p_quantity IS NULL OR p_quantity < 0 THEN
    RAISE EXCEPTION 'claim_tasks(): p_quantity is %, but must be 0 or more', coalesce(p_quantity::text, 'NULL');
  END IF;

  -- In random order, so that a flow with a long queue does not keep the others from being served.
  FOR flow IN
    SELECT f.slug, f.worker_id
    FROM unnest(p_flow_slugs, p_worker_ids) AS f (slug, worker_id)
    -- A worker may claim tasks, not read whatever other queues there are.
    WHERE EXISTS (SELECT FROM pgflow.flows AS known WHERE known.flow_slug = f.slug)
    ORDER BY random()
  LOOP
    EXIT WHEN quantity <= 0;
    locked_ids := pgflow._lock_visible_messages(flow.slug, quantity);
    CONTINUE WHEN locked_ids IS NULL;

    RETURN QUERY
    SELECT
      flow.slug,
      t.run_id,
      t.step_slug,
      t.task_index,
      t.attempt,
      t.msg_id,
      t.kind,
      t.input::text,
      t.timeout,
      t.max_attempts,
      t.retry_delay
    FROM pgflow._start_tasks(flow.slug, locked_ids, flow.worker_id, 1) AS t;
    GET DIAGNOSTICS started = ROW_COUNT;
    quantity := quantity - started::int;

    IF started < cardinality(locked_ids) THEN
      PERFORM pgflow._set_aside_messages(flow.slug, locked_ids);
    END IF;
  END LOOP;
END
$$;

-- What workers of long ago called; it has nothing for them.
CREATE FUNCTION pgflow.poll_for_tasks(
  queue_name text, vt int, qty int, max_poll_seconds int DEFAULT 5, poll_interval_ms int DEFAULT 100
)
RETURNS SETOF pgflow.step_task_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RAISE NOTICE 'poll_for_tasks is deprecated and returns nothing: read the queue with pgmq, then call start_tasks';
END
$$;

-- Ours: a worker that has found no tasks says that it will wait for a notification on the channel pgflow_tasks, whose
-- payload is the flow's slug. p_worker_ids[i] is its row for p_flow_slugs[i]. It has to look once more after this, and
-- again when it was told.
--
-- Returns whether it may wait (not while somebody is queueing tasks, see _wake_workers), and in how many seconds the next
-- delayed task becomes visible, NULL if none is known. Of the messages that are invisible most belong to tasks that run;
-- so that this costs the same whatever their number, only the next hundred are looked at.
CREATE FUNCTION pgflow.await_tasks(p_flow_slugs text[], p_worker_ids uuid[])
RETURNS TABLE (is_waiting boolean, next_visible_in double precision)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
-- The row of a worker that a transaction has told is gone when that ends; a worker does not wait for that.
SET lock_timeout TO '100ms'
AS $$
DECLARE
  queue record;
  visible_in double precision;
BEGIN
  FOR queue IN
    SELECT f.flow_slug AS slug FROM pgflow.flows AS f WHERE f.flow_slug = ANY(p_flow_slugs) ORDER BY f.flow_slug
  LOOP
    EXECUTE format(
      $query$
        SELECT extract(epoch FROM min(m.vt) FILTER (WHERE m.is_delayed OR m.position = 100) - clock_timestamp())
        FROM (
          SELECT
            q.vt,
            row_number() OVER (ORDER BY q.vt) AS position,
            EXISTS (
              SELECT FROM pgflow.step_tasks AS t
              WHERE t.message_id = q.msg_id AND t.flow_slug = $1 AND t.status = 'queued'
            ) AS is_delayed
          FROM (
            SELECT q.msg_id, q.vt FROM pgmq.%I AS q WHERE q.vt > clock_timestamp() ORDER BY q.vt LIMIT 100
          ) AS q
        ) AS m
      $query$,
      pgmq.format_table_name(queue.slug, 'q')
    ) INTO visible_in USING queue.slug;
    next_visible_in := least(next_visible_in, visible_in);
  END LOOP;

  INSERT INTO pgflow.waiting_workers (worker_id, flow_slug)
  SELECT w.worker_id, w.slug
  FROM unnest(p_flow_slugs, p_worker_ids) AS w (slug, worker_id)
  ORDER BY w.worker_id
  ON CONFLICT DO NOTHING;

  -- Last, and without waiting: whoever queues tasks waits for it, and may hold what the statements above wait for.
  SELECT bool_and(pg_try_advisory_xact_lock(3, hashtext(f.slug))) INTO is_waiting
  FROM unnest(p_flow_slugs) AS f (slug);
  RETURN NEXT;
END
$$;

-- Ours: a worker does not wait any more (see await_tasks).
CREATE FUNCTION pgflow.stop_awaiting_tasks(p_worker_ids uuid[])
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
  DELETE FROM pgflow.waiting_workers AS w WHERE w.worker_id = ANY(p_worker_ids)
$$;

-- What a verdict on each task of a batch would meet, in the batch's order: 'ready' (started, in this attempt), 'stale' (not
-- started, or held otherwise), 'over' (its run or step has ended) or 'unknown'. Who has not locked the tasks learns what was
-- so at the statement's start.
--
-- Attempt, worker and message say how whoever reports holds the task, as far as they are given: a late result of an earlier
-- attempt, of a worker that lost the task, or from before the run was retried, is 'stale'.
CREATE FUNCTION pgflow._look_at_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], attempts int[], worker_ids uuid[], message_ids bigint[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT
      CASE
        WHEN t.run_id IS NULL THEN 'unknown'
        WHEN t.attempts_count <> b.attempt OR t.last_worker_id <> b.worker_id OR t.message_id <> b.message_id THEN 'stale'
        WHEN t.run_status <> 'started' OR t.step_status <> 'started' THEN 'over'
        WHEN t.status <> 'started' THEN 'stale'
        ELSE 'ready'
      END
    FROM unnest(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, attempt, worker_id, message_id, position)
    LEFT JOIN LATERAL (
      SELECT
        t.run_id,
        t.status,
        t.attempts_count,
        t.last_worker_id,
        t.message_id,
        (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = t.run_id) AS run_status,
        (
          SELECT s.status FROM pgflow.step_states AS s WHERE s.run_id = t.run_id AND s.step_slug = t.step_slug
        ) AS step_status
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );
END
$$;

-- Lock a batch of tasks, and judge what a verdict on each of them meets, as _look_at_tasks says; the batch's second verdict on
-- a task is 'stale'. One judgement for each task, in the batch's order.
--
-- Runs, then step states, then tasks are locked, each by key, so that batches which overlap wait for each other and
-- never in a circle; what is read afterwards cannot change any more.
CREATE FUNCTION pgflow._judge_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], attempts int[], worker_ids uuid[], message_ids bigint[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  judgements text[];
BEGIN
  PERFORM
  FROM pgflow.runs AS r
  WHERE r.run_id = ANY(run_ids)
  ORDER BY r.run_id
  FOR UPDATE;

  PERFORM pgflow._lock_steps(run_ids, step_slugs);

  -- In one statement with the locks of the tasks, in the order of their keys, so that each is looked up once. Runs and step
  -- states cannot change any more, and are looked at once for all tasks of a step. What is judged is as in _look_at_tasks.
  WITH step AS (
    SELECT
      b.run_id,
      b.step_slug,
      array_agg(b.task_index ORDER BY b.task_index, b.position) AS task_indexes,
      array_agg(b.position ORDER BY b.task_index, b.position) AS positions
    FROM unnest(run_ids, step_slugs, task_indexes)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, position)
    GROUP BY b.run_id, b.step_slug
    ORDER BY b.run_id, b.step_slug
  ),
  task AS MATERIALIZED (
    SELECT
      step.run_id,
      step.step_slug,
      b.task_index,
      b.position,
      CASE
        WHEN t.status IS NULL THEN 'unknown'
        WHEN t.attempts_count <> attempts[b.position]
          OR t.last_worker_id <> worker_ids[b.position]
          OR t.message_id <> message_ids[b.position] THEN 'stale'
        WHEN state.run_status <> 'started' OR state.step_status <> 'started' THEN 'over'
        WHEN t.status <> 'started' THEN 'stale'
        ELSE 'ready'
      END AS judgement
    FROM step
    CROSS JOIN LATERAL (
      SELECT
        (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = step.run_id) AS run_status,
        (
          SELECT s.status
          FROM pgflow.step_states AS s
          WHERE s.run_id = step.run_id AND s.step_slug = step.step_slug
        ) AS step_status
      OFFSET 0
    ) AS state
    CROSS JOIN LATERAL unnest(step.task_indexes, step.positions) AS b (task_index, position)
    LEFT JOIN LATERAL (
      SELECT t.status, t.attempts_count, t.last_worker_id, t.message_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = step.run_id AND t.step_slug = step.step_slug AND t.task_index = b.task_index
      FOR UPDATE
    ) AS t ON true
  )
  SELECT
    array_agg(CASE WHEN n.judgement = 'ready' AND n.mention > 1 THEN 'stale' ELSE n.judgement END ORDER BY n.position)
  INTO judgements
  FROM (
    SELECT
      task.position,
      task.judgement,
      row_number() OVER (
        PARTITION BY task.run_id, task.step_slug, task.task_index, task.judgement ORDER BY task.position
      ) AS mention
    FROM task
  ) AS n;
  RETURN coalesce(judgements, '{}');
END
$$;

-- Of tasks that are ready to complete, find those whose output cannot feed the map that waits for it: a single step's output
-- that is no array although a dependent map takes its elements from it. The first such task of a run is judged 'failed',
-- and map_slugs names its map; further ones of the run are 'over'. `any_attempt` says that the batch does not fence: then
-- a task need not be started to fail so.
CREATE FUNCTION pgflow._judge_outputs(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  any_attempt boolean,
  INOUT judgements text[],
  OUT map_slugs text[]
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  violation record;
BEGIN
  -- Most steps feed no map, which is seen by their definitions alone.
  IF NOT EXISTS (
    SELECT
    FROM (
      -- Not by the index on flow_slug: a plan made while there are a few runs takes it for its order, and reads all runs.
      SELECT DISTINCT r.flow_slug || '' AS flow_slug FROM pgflow.runs AS r WHERE r.run_id = ANY(run_ids)
    ) AS f
    CROSS JOIN (SELECT DISTINCT b.step_slug FROM unnest(step_slugs) AS b (step_slug)) AS b
    CROSS JOIN LATERAL (
      SELECT
      FROM pgflow.deps AS d
      JOIN pgflow.steps AS definition
        ON definition.flow_slug = d.flow_slug AND definition.step_slug = d.step_slug
      WHERE d.flow_slug = f.flow_slug AND d.dep_slug = b.step_slug AND definition.step_type = 'map'
      OFFSET 0
    ) AS map
  ) THEN
    RETURN;
  END IF;

  SELECT
    array_agg(v.position) AS positions,
    array_agg(v.map_slug) AS map_slugs,
    array_agg(v.place) AS places
  INTO violation
  FROM (
    SELECT v.*, row_number() OVER (PARTITION BY v.run_id ORDER BY v.position) AS place
    FROM (
      SELECT DISTINCT ON (b.position) b.position, b.run_id, child.step_slug AS map_slug
      FROM unnest(run_ids, step_slugs, task_indexes, outputs, judgements)
        WITH ORDINALITY AS b (run_id, step_slug, task_index, output, judgement, position)
      CROSS JOIN LATERAL (
        SELECT t.flow_slug, t.step_slug, t.status
        FROM pgflow.step_tasks AS t
        WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
        OFFSET 0
      ) AS t
      CROSS JOIN LATERAL (
        SELECT definition.step_slug, definition.step_index
        FROM pgflow.deps AS d
        JOIN pgflow.steps AS definition
          ON definition.flow_slug = t.flow_slug AND definition.step_slug = d.step_slug
        WHERE d.flow_slug = t.flow_slug AND d.dep_slug = t.step_slug AND definition.step_type = 'map'
        OFFSET 0
      ) AS child
      WHERE (b.judgement = 'ready' OR (any_attempt AND b.judgement = 'stale' AND t.status = 'queued'))
        AND jsonb_typeof(b.output) IS DISTINCT FROM 'array'
        AND (
          SELECT definition.step_type
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
        ) = 'single'
        AND EXISTS (
          SELECT
          FROM pgflow.step_states AS waiting
          WHERE waiting.run_id = b.run_id AND waiting.step_slug = child.step_slug AND waiting.initial_tasks IS NULL
          OFFSET 0
        )
      ORDER BY b.position, child.step_index
    ) AS v
  ) AS v;
  IF violation.positions IS NULL THEN
    RETURN;
  END IF;

  SELECT
    array_agg(
      CASE WHEN v.position IS NULL THEN b.judgement WHEN v.place = 1 THEN 'failed' ELSE 'over' END ORDER BY b.position
    ),
    array_agg(CASE WHEN v.place = 1 THEN v.map_slug END ORDER BY b.position)
  INTO judgements, map_slugs
  FROM unnest(judgements) WITH ORDINALITY AS b (judgement, position)
  LEFT JOIN LATERAL (
    SELECT v.position, v.map_slug, v.place
    FROM unnest(violation.positions, violation.map_slugs, violation.places) AS v (position, map_slug, place)
    WHERE v.position = b.position
    OFFSET 0
  ) AS v ON true;
END
$$;

-- Fail the tasks for which map_slugs names the map that their output cannot feed, and with them their steps and runs,
-- whatever attempts are left. The output is kept for whoever looks for the reason. The history says what the attempt came
-- to, if that is given.
CREATE FUNCTION pgflow._fail_type_violations(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  map_slugs text[],
  outcomes text[],
  error_messages text[],
  evidence jsonb[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  ended record;
BEGIN
  WITH violating AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'failed',
      failed_at = greatest(now(), t.queued_at, t.started_at),
      output = v.output,
      error_message = format('[TYPE_VIOLATION] Produced %s instead of array', coalesce(jsonb_typeof(v.output), 'null'))
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, map_slugs, outcomes, error_messages, evidence)
      AS v (run_id, step_slug, task_index, output, map_slug, outcome, error_message, evidence)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.status
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = v.run_id AND k.step_slug = v.step_slug AND k.task_index = v.task_index
      OFFSET 0
    ) AS k
    WHERE v.map_slug IS NOT NULL AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id, t.started_at,
      t.failed_at, coalesce(v.outcome, 'failed') AS outcome, coalesce(v.error_message, t.error_message) AS error_message,
      v.evidence, k.status AS former_status
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      v.run_id, v.step_slug, v.task_index, v.attempts_count, v.outcome, v.last_worker_id, v.started_at, v.failed_at,
      v.error_message, v.evidence
    FROM violating AS v
    WHERE v.former_status = 'started'
  )
  SELECT array_agg(v.flow_slug) AS flow_slugs, array_agg(v.message_id) AS message_ids INTO ended
  FROM violating AS v;

  PERFORM pgflow._fail_steps(
    array_agg(v.run_id),
    array_agg(v.step_slug),
    array_agg(
      format(
        '[TYPE_VIOLATION] Map step %s expects array input but dependency %s produced %s',
        v.map_slug, v.step_slug, coalesce(jsonb_typeof(v.output), 'null')
      )
    ),
    is_type_violation => true
  )
  FROM unnest(run_ids, step_slugs, outputs, map_slugs) AS v (run_id, step_slug, output, map_slug)
  WHERE v.map_slug IS NOT NULL;
  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);
END
$$;

-- Tasks of steps have completed: the steps have that many fewer left, and those with none left complete, with the
-- task's output, or for a map all outputs in the order of the elements; their dependents learn of it. Runs without any step
-- left complete; returns the others of those that have fewer now, which may come further.
CREATE FUNCTION pgflow._complete_steps(run_ids uuid[], step_slugs text[], task_counts int[])
RETURNS uuid[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  completed record;
  still_going uuid[];
BEGIN
  WITH counted AS (
    UPDATE pgflow.step_states AS s
    SET
      remaining_tasks = s.remaining_tasks - c.task_count,
      status = CASE WHEN s.remaining_tasks = c.task_count THEN 'completed' ELSE s.status END,
      completed_at = CASE WHEN s.remaining_tasks = c.task_count THEN greatest(now(), s.started_at) END,
      -- Only the last task's batch reads the outputs of them all.
      output = CASE
        WHEN s.remaining_tasks > c.task_count THEN NULL
        WHEN k.step_type = 'map' THEN (
          SELECT jsonb_agg(coalesce(t.output, 'null'::jsonb) ORDER BY t.task_index)
          FROM pgflow.step_tasks AS t
          WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug
        )
        ELSE (
          SELECT t.output
          FROM pgflow.step_tasks AS t
          WHERE t.run_id = s.run_id AND t.step_slug = s.step_slug AND t.task_index = 0
        )
      END
    FROM unnest(run_ids, step_slugs, task_counts) AS c (run_id, step_slug, task_count)
    CROSS JOIN LATERAL (
      SELECT
        k.ctid,
        (
          SELECT definition.step_type
          FROM pgflow.steps AS definition
          WHERE definition.flow_slug = k.flow_slug AND definition.step_slug = k.step_slug
        ) AS step_type
      FROM pgflow.step_states AS k
      WHERE k.run_id = c.run_id AND k.step_slug = c.step_slug
      OFFSET 0
    ) AS k
    WHERE s.ctid = k.ctid
    RETURNING s.run_id, s.step_slug, s.status
  )
  SELECT array_agg(c.run_id) AS run_ids, array_agg(c.step_slug) AS step_slugs INTO completed
  FROM counted AS c
  WHERE c.status = 'completed';

  IF completed.run_ids IS NOT NULL THEN
    PERFORM pgflow._emit_step_events('completed', completed.run_ids, completed.step_slugs);
    PERFORM pgflow._release_dependents(completed.run_ids, completed.step_slugs);
    still_going := pgflow._complete_runs(completed.run_ids, 1);
  END IF;
  RETURN still_going;
END
$$;

-- Complete those tasks of a batch that are judged 'ready', their steps and runs with them, and bring the runs as far as they
-- come; but fail those whose output cannot feed the map that waits for it. Returns the judgements as they are then: 'completed' or 'failed' instead of 'ready'.
-- `outcomes`, `error_messages` and `evidence` are for the history, and NULL of what a task that did its work needs not.
CREATE FUNCTION pgflow._complete_ready_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  any_attempt boolean,
  judgements text[],
  outcomes text[],
  error_messages text[],
  evidence jsonb[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  violation record;
  done record;
  still_going uuid[];
BEGIN
  SELECT v.judgements, v.map_slugs INTO violation
  FROM pgflow._judge_outputs(run_ids, step_slugs, task_indexes, outputs, any_attempt, judgements) AS v;

  WITH completed AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'completed',
      completed_at = greatest(now(), t.started_at),
      output = b.output,
      error_message = coalesce(b.error_message, t.error_message)
    FROM unnest(run_ids, step_slugs, task_indexes, outputs, violation.judgements, outcomes, error_messages, evidence)
      AS b (run_id, step_slug, task_index, output, judgement, outcome, error_message, evidence)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = 'ready' AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id, t.started_at,
      t.completed_at, coalesce(b.outcome, 'completed') AS outcome, b.error_message, b.evidence
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      c.run_id, c.step_slug, c.task_index, c.attempts_count, c.outcome, c.last_worker_id, c.started_at, c.completed_at,
      c.error_message, c.evidence
    FROM completed AS c
  ),
  step AS (
    SELECT c.run_id, c.step_slug, count(*)::int AS task_count FROM completed AS c GROUP BY c.run_id, c.step_slug
  )
  SELECT s.run_ids, s.step_slugs, s.task_counts, m.flow_slugs, m.message_ids
  INTO done
  FROM (
    SELECT
      array_agg(step.run_id) AS run_ids,
      array_agg(step.step_slug) AS step_slugs,
      array_agg(step.task_count) AS task_counts
    FROM step
  ) AS s
  CROSS JOIN (
    SELECT array_agg(c.flow_slug) AS flow_slugs, array_agg(c.message_id) AS message_ids FROM completed AS c
  ) AS m;

  IF done.run_ids IS NOT NULL THEN
    still_going := pgflow._complete_steps(done.run_ids, done.step_slugs, done.task_counts);
    PERFORM pgflow._archive_messages(done.flow_slugs, done.message_ids);
  END IF;
  IF violation.map_slugs IS NOT NULL THEN
    PERFORM pgflow._fail_type_violations(
      run_ids, step_slugs, task_indexes, outputs, violation.map_slugs, outcomes, error_messages, evidence
    );
  END IF;
  -- Nothing can move in a run none of whose steps has ended.
  IF still_going IS NOT NULL THEN
    PERFORM pgflow._advance_runs(still_going);
  END IF;
  RETURN array_replace(violation.judgements, 'ready', 'completed');
END
$$;

-- complete_tasks, with the rights of whoever calls.
CREATE FUNCTION pgflow._complete_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  attempts int[],
  worker_ids uuid[],
  message_ids bigint[],
  evidence jsonb[]
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  judgements text[] := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
BEGIN
  judgements := pgflow._complete_ready_tasks(
    run_ids,
    step_slugs,
    task_indexes,
    outputs,
    attempts IS NULL AND worker_ids IS NULL AND message_ids IS NULL,
    judgements,
    NULL,
    NULL,
    evidence
  );

  IF 'over' = ANY(judgements) THEN
    PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
    FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
    CROSS JOIN LATERAL (
      SELECT t.flow_slug, t.message_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t
    WHERE b.judgement = 'over'
      AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id) <> 'failed';
  END IF;

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;

-- Ours: complete a batch of tasks, and whatever follows from that, in a number of statements that does not grow with
-- the runs and steps in it. With `attempts`, `worker_ids` and `message_ids`, as the claim gave them, a result of whoever does
-- not hold the task any more changes nothing.
-- `evidence` is for the history: what was seen of the attempts.
-- Verdicts: 'completed', 'failed' (type violation), 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.complete_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  outputs jsonb[],
  attempts int[] DEFAULT NULL,
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL,
  evidence jsonb[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._check_lengths(
    'complete_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'outputs', 'attempts', 'worker_ids', 'message_ids', 'evidence'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      cardinality(outputs),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids)),
      coalesce(cardinality(evidence), cardinality(run_ids))
    ]
  );
  RETURN QUERY
  SELECT t.ordinal, t.verdict
  FROM pgflow._complete_tasks(
    run_ids, step_slugs, task_indexes, outputs, attempts, worker_ids, message_ids, evidence
  ) AS t;
END
$$;

-- Complete a task in whichever attempt it is; returns its row as it is afterwards.
CREATE FUNCTION pgflow.complete_task(run_id uuid, step_slug text, task_index int, output jsonb)
RETURNS SETOF pgflow.step_tasks
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._complete_tasks(
    ARRAY[complete_task.run_id],
    ARRAY[complete_task.step_slug],
    ARRAY[complete_task.task_index],
    ARRAY[complete_task.output],
    NULL, NULL, NULL, NULL
  );
  RETURN QUERY
  SELECT *
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = complete_task.run_id
    AND t.step_slug = complete_task.step_slug
    AND t.task_index = complete_task.task_index;
END
$$;

-- Send started tasks back to their queues for another attempt, visible after their own delay or their step's. What their
-- attempts were, `outcomes` and `evidence` say, is kept in the history.
CREATE FUNCTION pgflow._retry_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  retry_delays int[],
  outcomes text[],
  evidence jsonb[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queued record;
BEGIN
  WITH retried AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'queued', started_at = NULL, failed_at = NULL, error_message = b.error_message
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, retry_delays, outcomes, evidence)
      AS b (run_id, step_slug, task_index, error_message, retry_delay, outcome, evidence)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.started_at
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id,
      t.error_message, k.started_at, b.retry_delay, b.outcome, b.evidence
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      r.run_id, r.step_slug, r.task_index, r.attempts_count, r.outcome, r.last_worker_id, r.started_at,
      greatest(now(), r.started_at), r.error_message, r.evidence
    FROM retried AS r
  )
  SELECT
    array_agg(t.flow_slug) AS flow_slugs,
    array_agg(t.message_id) AS message_ids,
    array_agg(
      coalesce(
        t.retry_delay,
        pgflow.calculate_retry_delay(
          coalesce(
            (
              SELECT s.opt_base_delay
              FROM pgflow.steps AS s
              WHERE s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
            ),
            (SELECT f.opt_base_delay FROM pgflow.flows AS f WHERE f.flow_slug = t.flow_slug)
          ),
          t.attempts_count
        )
      )
    ) AS delays
  INTO queued
  FROM retried AS t;

  UPDATE pgflow.step_states AS s
  SET error_message = NULL
  FROM unnest(run_ids, step_slugs) AS b (run_id, step_slug)
  CROSS JOIN LATERAL (
    SELECT k.ctid FROM pgflow.step_states AS k WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug OFFSET 0
  ) AS k
  WHERE s.ctid = k.ctid AND s.error_message IS NOT NULL;

  PERFORM pgflow._delay_messages(queued.flow_slugs, queued.message_ids, queued.delays);
END
$$;

-- Steps have a task without attempts left: as their when_exhausted says, they fail with their run, are skipped, or are
-- skipped with everything that depends on them. The steps come in the order of the batch: the first one that fails its
-- run counts, and nothing is skipped in a run that fails.
CREATE FUNCTION pgflow._exhaust_steps(run_ids uuid[], step_slugs text[], error_messages text[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  failing record;
  skipping record;
BEGIN
  SELECT
    array_agg(f.run_id) AS run_ids,
    array_agg(f.step_slug) AS step_slugs,
    array_agg(f.error_message) AS error_messages
  INTO failing
  FROM (
    SELECT DISTINCT ON (b.run_id) b.run_id, b.step_slug, b.error_message
    FROM unnest(run_ids, step_slugs, error_messages)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, position)
    CROSS JOIN LATERAL (
      SELECT r.flow_slug, r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT definition.when_exhausted
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = r.flow_slug AND definition.step_slug = b.step_slug
      OFFSET 0
    ) AS definition
    WHERE definition.when_exhausted = 'fail' AND r.status = 'started'
    ORDER BY b.run_id, b.position
  ) AS f;
  IF failing.run_ids IS NOT NULL THEN
    PERFORM pgflow._fail_steps(failing.run_ids, failing.step_slugs, failing.error_messages);
  END IF;

  SELECT
    array_agg(s.run_id) AS run_ids,
    array_agg(s.step_slug) AS step_slugs,
    array_agg(s.error_message) AS error_messages,
    array_agg('handler_failed'::text) AS reasons,
    array_agg(s.when_exhausted) AS modes
  INTO skipping
  FROM (
    SELECT DISTINCT ON (b.run_id, b.step_slug) b.run_id, b.step_slug, b.error_message, definition.when_exhausted
    FROM unnest(run_ids, step_slugs, error_messages)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, position)
    CROSS JOIN LATERAL (
      SELECT r.flow_slug, r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT definition.when_exhausted
      FROM pgflow.steps AS definition
      WHERE definition.flow_slug = r.flow_slug AND definition.step_slug = b.step_slug
      OFFSET 0
    ) AS definition
    WHERE r.status = 'started'
    ORDER BY b.run_id, b.step_slug, b.position
  ) AS s;
  IF skipping.run_ids IS NULL THEN
    RETURN;
  END IF;
  PERFORM pgflow._skip_steps(skipping.run_ids, skipping.step_slugs, skipping.reasons, skipping.error_messages);

  PERFORM pgflow._release_dependents(array_agg(s.run_id), array_agg(s.step_slug))
  FROM unnest(skipping.run_ids, skipping.step_slugs, skipping.modes) AS s (run_id, step_slug, mode)
  WHERE s.mode = 'skip';

  PERFORM pgflow._skip_steps_and_dependents(array_agg(s.run_id), array_agg(s.step_slug), 'handler_failed')
  FROM unnest(skipping.run_ids, skipping.step_slugs, skipping.modes) AS s (run_id, step_slug, mode)
  WHERE s.mode = 'skip-cascade';

  PERFORM pgflow._advance_runs(skipping.run_ids);
END
$$;

-- Complete those tasks of a batch that are judged 'recorded' with their error as the output. Returns the judgements as they
-- are then: a task whose output should have fed a map has failed its run, as any output does that is no array.
CREATE FUNCTION pgflow._record_failed_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  completed text[];
BEGIN
  completed := pgflow._complete_ready_tasks(
    run_ids,
    step_slugs,
    task_indexes,
    ARRAY(
      SELECT jsonb_build_object(
        '$error',
        jsonb_build_object(
          'message', b.error_message,
          'kind', b.outcome,
          'attempts', (
            SELECT t.attempts_count
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
          )
        )
      )
      FROM unnest(run_ids, step_slugs, task_indexes, error_messages, outcomes)
        WITH ORDINALITY AS b (run_id, step_slug, task_index, error_message, outcome, position)
      ORDER BY b.position
    ),
    false,
    array_replace(judgements, 'recorded', 'ready'),
    outcomes,
    error_messages,
    evidence
  );
  RETURN array_replace(completed, 'completed', 'recorded');
END
$$;

-- Fail those tasks of a batch that are judged 'failed'. What becomes of their steps is another's business.
CREATE FUNCTION pgflow._fail_exhausted_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  ended record;
BEGIN
  WITH failed AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'failed', failed_at = greatest(now(), t.queued_at, t.started_at), error_message = b.error_message
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, outcomes, evidence, judgements)
      AS b (run_id, step_slug, task_index, error_message, outcome, evidence, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = 'failed' AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count, t.last_worker_id, t.started_at,
      t.failed_at, t.error_message, b.outcome, b.evidence
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message, evidence
    )
    SELECT
      f.run_id, f.step_slug, f.task_index, f.attempts_count, f.outcome, f.last_worker_id, f.started_at, f.failed_at,
      f.error_message, f.evidence
    FROM failed AS f
  )
  SELECT array_agg(f.flow_slug) AS flow_slugs, array_agg(f.message_id) AS message_ids INTO ended
  FROM failed AS f;

  PERFORM pgflow._archive_messages(ended.flow_slugs, ended.message_ids);
END
$$;

-- Tasks of a batch that are judged 'over': those that are still started in a run that has failed end with it. Their attempts
-- are in the history already, since the run failed.
CREATE FUNCTION pgflow._fail_late_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], error_messages text[], judgements text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.step_tasks AS t
  SET status = 'failed', failed_at = greatest(now(), t.queued_at, t.started_at), error_message = b.error_message
  FROM unnest(run_ids, step_slugs, task_indexes, error_messages, judgements)
    AS b (run_id, step_slug, task_index, error_message, judgement)
  CROSS JOIN LATERAL (
    SELECT k.ctid
    FROM pgflow.step_tasks AS k
    WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
    OFFSET 0
  ) AS k
  WHERE b.judgement = 'over'
    AND t.ctid = k.ctid
    AND t.status || '' = 'started'
    AND (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = b.run_id) = 'failed';

  PERFORM pgflow._archive_messages(array_agg(t.flow_slug), array_agg(t.message_id))
  FROM unnest(run_ids, step_slugs, task_indexes, judgements) AS b (run_id, step_slug, task_index, judgement)
  CROSS JOIN LATERAL (
    SELECT t.flow_slug, t.message_id
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t
  WHERE b.judgement = 'over';
END
$$;

-- End what a batch gives up: tasks judged 'failed' fail, and their steps end as when_exhausted says; those judged 'recorded'
-- complete with their error; those judged 'over' end with their run. Returns the judgements as they are then.
CREATE FUNCTION pgflow._give_up_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  final text[] := judgements;
BEGIN
  -- First of all: what is recorded may fail a run, and cancels the attempts that go on in it then. These do not.
  IF 'failed' = ANY(judgements) THEN
    PERFORM pgflow._fail_exhausted_tasks(
      run_ids, step_slugs, task_indexes, error_messages, outcomes, evidence, judgements
    );
  END IF;

  IF 'recorded' = ANY(judgements) THEN
    final := pgflow._record_failed_tasks(
      run_ids, step_slugs, task_indexes, error_messages, outcomes, evidence, judgements
    );
  END IF;

  IF 'over' = ANY(final) THEN
    PERFORM pgflow._fail_late_tasks(run_ids, step_slugs, task_indexes, error_messages, final);
  END IF;

  IF 'failed' = ANY(judgements) THEN
    PERFORM pgflow._exhaust_steps(
      array_agg(b.run_id ORDER BY b.position),
      array_agg(b.step_slug ORDER BY b.position),
      array_agg(b.error_message ORDER BY b.position)
    )
    FROM unnest(run_ids, step_slugs, error_messages, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, error_message, judgement, position)
    WHERE b.judgement = 'failed';
  END IF;
  RETURN final;
END
$$;

-- Attempts that were killed because their tasks' runs or steps had ended, those of a batch that are judged 'over', have been
-- recorded already, by whoever ended those: now it is known what they had been doing.
CREATE FUNCTION pgflow._tell_cancelled_attempts(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  outcomes text[],
  evidence jsonb[],
  judgements text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE pgflow.task_attempts AS a
  SET error_message = b.error_message, evidence = b.evidence
  FROM unnest(
    run_ids, step_slugs, task_indexes, error_messages, outcomes, _tell_cancelled_attempts.evidence, judgements
  ) AS b (run_id, step_slug, task_index, error_message, outcome, evidence, judgement)
  CROSS JOIN LATERAL (
    SELECT k.ctid, k.outcome, k.error_message
    FROM pgflow.task_attempts AS k
    WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
    ORDER BY k.attempt_id DESC
    LIMIT 1
  ) AS k
  WHERE a.ctid = k.ctid
    AND b.judgement = 'over'
    AND b.outcome = 'cancelled'
    AND k.outcome = 'cancelled'
    AND k.error_message IS NULL;
END
$$;

-- fail_tasks, with the rights of whoever calls.
CREATE FUNCTION pgflow._fail_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  attempts int[],
  retry_delays int[],
  outcomes text[],
  worker_ids uuid[],
  message_ids bigint[],
  evidence jsonb[]
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  judgements text[] := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  kinds CONSTANT text[] := ARRAY(
    SELECT coalesce(b.outcome, 'failed')
    FROM unnest(run_ids, outcomes) WITH ORDINALITY AS b (run_id, outcome, position)
    ORDER BY b.position
  );
BEGIN
  SELECT
    array_agg(
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        -- Of a task that has stalled for good the message is archived: retry_run sends another.
        WHEN t.has_attempts_left AND coalesce(b.retry_delay, 0) >= 0
          THEN CASE WHEN t.has_stalled THEN 'stale' ELSE 'retried' END
        WHEN t.is_recorded THEN 'recorded'
        ELSE 'failed'
      END
      ORDER BY b.position
    )
  INTO judgements
  FROM unnest(run_ids, step_slugs, task_indexes, retry_delays, judgements)
    WITH ORDINALITY AS b (run_id, step_slug, task_index, retry_delay, judgement, position)
  LEFT JOIN LATERAL (
    SELECT
      t.attempts_count < coalesce(
        (
          SELECT s.opt_max_attempts
          FROM pgflow.steps AS s
          WHERE s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
        ),
        (SELECT f.opt_max_attempts FROM pgflow.flows AS f WHERE f.flow_slug = t.flow_slug)
      ) AS has_attempts_left,
      t.permanently_stalled_at IS NOT NULL AS has_stalled,
      EXISTS (
        SELECT FROM pgflow.recording_steps AS r WHERE r.flow_slug = t.flow_slug AND r.step_slug = t.step_slug
      ) AS is_recorded
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
    OFFSET 0
  ) AS t ON true;

  IF 'retried' = ANY(judgements) THEN
    PERFORM pgflow._retry_tasks(
      array_agg(b.run_id),
      array_agg(b.step_slug),
      array_agg(b.task_index),
      array_agg(b.error_message),
      array_agg(b.retry_delay),
      array_agg(b.outcome),
      array_agg(b.evidence)
    )
    FROM unnest(run_ids, step_slugs, task_indexes, error_messages, retry_delays, kinds, evidence, judgements)
      AS b (run_id, step_slug, task_index, error_message, retry_delay, outcome, evidence, judgement)
    WHERE b.judgement = 'retried';
  END IF;

  IF judgements && ARRAY['recorded', 'failed', 'over'] THEN
    judgements := pgflow._give_up_tasks(
      run_ids, step_slugs, task_indexes, error_messages, kinds, evidence, judgements
    );
  END IF;

  IF 'over' = ANY(judgements) AND 'cancelled' = ANY(kinds) THEN
    PERFORM pgflow._tell_cancelled_attempts(
      run_ids, step_slugs, task_indexes, error_messages, kinds, evidence, judgements
    );
  END IF;

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;

-- Ours: fail the attempts of a batch of tasks. A task with attempts left goes back to its queue, to be visible after
-- its step's delay, or after its own in `retry_delays`, in seconds. One without, or with a negative delay, completes with
-- its error where its step records failures; else it fails, and its step ends as when_exhausted says.
--
-- `outcomes` says in a word how the attempts ended (see task_attempts; 'failed' unless given), `evidence` what was seen of it.
-- With `attempts`, `worker_ids` and `message_ids`, as the claim gave them, a failure reported by whoever does not hold the
-- task any more changes nothing.
-- Verdicts: 'retried', 'recorded', 'failed', 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.fail_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  error_messages text[],
  attempts int[] DEFAULT NULL,
  retry_delays int[] DEFAULT NULL,
  outcomes text[] DEFAULT NULL,
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL,
  evidence jsonb[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE sql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
  SELECT pgflow._check_lengths(
    'fail_tasks',
    ARRAY[
      'run_ids', 'step_slugs', 'task_indexes', 'error_messages', 'attempts', 'retry_delays', 'outcomes', 'worker_ids',
      'message_ids', 'evidence'
    ],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      cardinality(error_messages),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(retry_delays), cardinality(run_ids)),
      coalesce(cardinality(outcomes), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids)),
      coalesce(cardinality(evidence), cardinality(run_ids))
    ]
  );
  SELECT t.ordinal, t.verdict
  FROM pgflow._fail_tasks(
    run_ids, step_slugs, task_indexes, error_messages, attempts, retry_delays, outcomes, worker_ids, message_ids, evidence
  ) AS t
$$;

-- Fail a task's attempt, whichever it is; returns its row as it is afterwards.
CREATE FUNCTION pgflow.fail_task(run_id uuid, step_slug text, task_index int, error_message text)
RETURNS SETOF pgflow.step_tasks
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgflow._fail_tasks(
    ARRAY[fail_task.run_id],
    ARRAY[fail_task.step_slug],
    ARRAY[fail_task.task_index],
    ARRAY[fail_task.error_message],
    NULL, NULL, NULL, NULL, NULL, NULL
  );
  RETURN QUERY
  SELECT *
  FROM pgflow.step_tasks AS t
  WHERE t.run_id = fail_task.run_id
    AND t.step_slug = fail_task.step_slug
    AND t.task_index = fail_task.task_index;
END
$$;

-- Hand those tasks of a batch that are judged `outcome`, 'released' or 'requeued', back to their queues, visible at once, and
-- their attempts with them. Who requeues is counted, and says why.
CREATE FUNCTION pgflow._hand_back_tasks(
  run_ids uuid[], step_slugs text[], task_indexes int[], reasons text[], judgements text[], outcome text
)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  is_counted CONSTANT int := CASE outcome WHEN 'requeued' THEN 1 ELSE 0 END;
  queued record;
BEGIN
  WITH handed_back AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = 'queued',
      started_at = NULL,
      attempts_count = greatest(t.attempts_count - 1, 0),
      last_worker_id = NULL,
      requeued_count = t.requeued_count + is_counted,
      last_requeued_at = CASE is_counted WHEN 1 THEN now() ELSE t.last_requeued_at END
    FROM unnest(run_ids, step_slugs, task_indexes, reasons, judgements)
      AS b (run_id, step_slug, task_index, reason, judgement)
    CROSS JOIN LATERAL (
      SELECT k.ctid, k.attempts_count, k.last_worker_id, k.started_at
      FROM pgflow.step_tasks AS k
      WHERE k.run_id = b.run_id AND k.step_slug = b.step_slug AND k.task_index = b.task_index
      OFFSET 0
    ) AS k
    WHERE b.judgement = outcome AND t.ctid = k.ctid
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, k.attempts_count, k.last_worker_id, k.started_at,
      b.reason
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at, error_message
    )
    SELECT
      h.run_id, h.step_slug, h.task_index, h.attempts_count, _hand_back_tasks.outcome, h.last_worker_id, h.started_at,
      greatest(now(), h.started_at), h.reason
    FROM handed_back AS h
  )
  SELECT
    array_agg(h.flow_slug) AS flow_slugs,
    array_agg(h.message_id) AS message_ids,
    array_agg(0) AS delays
  INTO queued
  FROM handed_back AS h;
  PERFORM pgflow._delay_messages(queued.flow_slugs, queued.message_ids, queued.delays);
END
$$;

-- Ours: hand started tasks back to their queues, visible at once, without an attempt spent.
-- Verdicts: 'released', 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.release_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  attempts int[],
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  judgements text[];
BEGIN
  PERFORM pgflow._check_lengths(
    'release_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'attempts', 'worker_ids', 'message_ids'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids))
    ]
  );

  judgements := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  -- Of a task that has stalled for good the message is archived: retry_run sends another.
  judgements := ARRAY(
    SELECT
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        WHEN t.has_stalled THEN 'stale'
        ELSE 'released'
      END
    FROM unnest(run_ids, step_slugs, task_indexes, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, judgement, position)
    LEFT JOIN LATERAL (
      SELECT t.permanently_stalled_at IS NOT NULL AS has_stalled
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );

  PERFORM pgflow._hand_back_tasks(run_ids, step_slugs, task_indexes, NULL, judgements, 'released');

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;

-- Why each of those tasks of a batch that are judged 'recorded' or 'failed' is given up: after a sentence that stands on
-- its own, a line for each time it was handed back since it was queued for the first time or by retry_run, and one for this
-- time. Of the others it is the reason alone. One text for each task, in the batch's order.
CREATE FUNCTION pgflow._tell_hand_backs(
  run_ids uuid[], step_slugs text[], task_indexes int[], reasons text[], judgements text[]
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT
      CASE
        WHEN b.judgement IN ('recorded', 'failed') THEN (
          SELECT
            format('Task was given up: it was handed back %s times and its worker died again', t.requeued_count)
            || string_agg(
              format(
                E'\n%s UTC, %s: %s',
                to_char(e.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
                coalesce(
                  (
                    SELECT format('worker %s (%s)', left(w.function_name, 100), w.worker_id)
                    FROM pgflow.workers AS w
                    WHERE w.worker_id = e.worker_id
                  ),
                  'worker ' || e.worker_id,
                  'a worker of which nothing is known'
                ),
                left(split_part(coalesce(e.reason, 'it was silent for longer than the task may take'), E'\n', 1), 300)
              ),
              '' ORDER BY e.attempt_id NULLS LAST
            )
          FROM (
            (
              SELECT a.attempt_id, a.ended_at, a.worker_id, a.error_message AS reason
              FROM pgflow.task_attempts AS a
              WHERE a.run_id = b.run_id
                AND a.step_slug = b.step_slug
                AND a.task_index = b.task_index
                AND a.outcome = 'requeued'
                AND a.ended_at >= t.queued_at
              ORDER BY a.attempt_id DESC
              LIMIT t.requeued_count
            )
            UNION ALL
            SELECT NULL, greatest(now(), t.started_at), t.last_worker_id, b.reason
          ) AS e
        )
        ELSE b.reason
      END
    FROM unnest(run_ids, step_slugs, task_indexes, reasons, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, reason, judgement, position)
    LEFT JOIN LATERAL (
      SELECT t.requeued_count, t.queued_at, t.started_at, t.last_worker_id
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );
END
$$;

-- Ours: hand back what workers held that are gone, for the reasons given, visible at once and without an attempt spent: the
-- task is not to blame. But of a task that was handed back three times before, no fourth worker shall die: it completes with
-- its error where its step records failures; else it fails, and its step ends as when_exhausted says.
-- Verdicts: 'requeued', 'recorded', 'failed', 'stale', 'over', 'unknown' (see _judge_tasks).
CREATE FUNCTION pgflow.requeue_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  reasons text[],
  attempts int[],
  worker_ids uuid[] DEFAULT NULL,
  message_ids bigint[] DEFAULT NULL
)
RETURNS TABLE (ordinal int, verdict text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  judgements text[];
  outcomes CONSTANT text[] := array_fill('crashed'::text, ARRAY[coalesce(cardinality(run_ids), 0)]);
  errors text[];
BEGIN
  PERFORM pgflow._check_lengths(
    'requeue_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'reasons', 'attempts', 'worker_ids', 'message_ids'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      cardinality(reasons),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids))
    ]
  );

  judgements := pgflow._judge_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);
  judgements := ARRAY(
    SELECT
      CASE
        WHEN b.judgement <> 'ready' THEN b.judgement
        -- Of a task that has stalled for good the message is archived: retry_run sends another.
        WHEN t.has_stalled THEN 'stale'
        WHEN t.requeued_count < 3 THEN 'requeued'
        WHEN t.is_recorded THEN 'recorded'
        ELSE 'failed'
      END
    FROM unnest(run_ids, step_slugs, task_indexes, judgements)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, judgement, position)
    LEFT JOIN LATERAL (
      SELECT
        t.requeued_count,
        t.permanently_stalled_at IS NOT NULL AS has_stalled,
        EXISTS (
          SELECT FROM pgflow.recording_steps AS r WHERE r.flow_slug = t.flow_slug AND r.step_slug = t.step_slug
        ) AS is_recorded
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t ON true
    ORDER BY b.position
  );

  IF 'requeued' = ANY(judgements) THEN
    PERFORM pgflow._hand_back_tasks(run_ids, step_slugs, task_indexes, reasons, judgements, 'requeued');
  END IF;

  IF judgements && ARRAY['recorded', 'failed', 'over'] THEN
    errors := pgflow._tell_hand_backs(run_ids, step_slugs, task_indexes, reasons, judgements);
    -- Tasks of a run that has failed end with it: else they would be found with a dead worker again and again.
    judgements := pgflow._give_up_tasks(run_ids, step_slugs, task_indexes, errors, outcomes, NULL, judgements);
  END IF;

  RETURN QUERY
  SELECT j.position::int, j.judgement
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;

-- Ours: whether a worker still holds tasks that it is busy with: 'held', 'over' (the task's run or step has ended: nothing
-- that comes of it counts) or 'lost' (anything else). Messages of those that are held stay invisible for at least `visible_seconds`
-- from now, where that is not NULL.
--
-- It is called every second, and locks no run, step or task. The messages that are to stay invisible are locked before it is
-- looked who holds the tasks: whoever hands a task back changes the task first and then its message, so either that is seen
-- here, or the message becomes visible after this. Nothing is waited for; a message that somebody else has locked is left out.
CREATE FUNCTION pgflow.renew_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes int[],
  attempts int[],
  worker_ids uuid[],
  message_ids bigint[],
  visible_seconds int[]
)
RETURNS TABLE (ordinal int, state text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
SET plan_cache_mode TO force_generic_plan
SET enable_seqscan TO off
SET enable_hashjoin TO off
SET enable_mergejoin TO off
SET random_page_cost TO 0
SET cpu_operator_cost TO 0
SET cpu_index_tuple_cost TO 1
SET jit TO off
AS $$
DECLARE
  locked record;
  judgements text[];
BEGIN
  PERFORM pgflow._check_lengths(
    'renew_tasks',
    ARRAY['run_ids', 'step_slugs', 'task_indexes', 'attempts', 'worker_ids', 'message_ids', 'visible_seconds'],
    ARRAY[
      cardinality(run_ids),
      cardinality(step_slugs),
      cardinality(task_indexes),
      coalesce(cardinality(attempts), cardinality(run_ids)),
      coalesce(cardinality(worker_ids), cardinality(run_ids)),
      coalesce(cardinality(message_ids), cardinality(run_ids)),
      coalesce(cardinality(visible_seconds), cardinality(run_ids))
    ]
  );

  SELECT array_agg(m.flow_slug) AS flow_slugs, array_agg(m.position_locked) AS positions
  INTO locked
  FROM (
    SELECT
      array_agg(t.flow_slug) AS flow_slugs,
      array_agg(b.message_id) AS message_ids,
      array_agg(b.position::int) AS positions
    FROM unnest(run_ids, step_slugs, task_indexes, message_ids, visible_seconds)
      WITH ORDINALITY AS b (run_id, step_slug, task_index, message_id, seconds, position)
    CROSS JOIN LATERAL (
      SELECT t.flow_slug
      FROM pgflow.step_tasks AS t
      WHERE t.run_id = b.run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index
      OFFSET 0
    ) AS t
    WHERE b.seconds IS NOT NULL
  ) AS wanted
  CROSS JOIN LATERAL pgflow._lock_messages(wanted.flow_slugs, wanted.message_ids, wanted.positions) AS m;

  judgements := pgflow._look_at_tasks(run_ids, step_slugs, task_indexes, attempts, worker_ids, message_ids);

  IF locked.positions IS NOT NULL THEN
    PERFORM pgflow._keep_messages_invisible(
      array_agg(l.flow_slug), array_agg(message_ids[l.position]), array_agg(visible_seconds[l.position])
    )
    FROM unnest(locked.flow_slugs, locked.positions) AS l (flow_slug, position)
    WHERE judgements[l.position] = 'ready';
  END IF;

  RETURN QUERY
  SELECT j.position::int, CASE j.judgement WHEN 'ready' THEN 'held' WHEN 'over' THEN 'over' ELSE 'lost' END
  FROM unnest(judgements) WITH ORDINALITY AS j (judgement, position);
END
$$;

-- Lock a run and all its step states, in the order of all others; its status, or NULL if there is none.
CREATE FUNCTION pgflow._lock_run(p_run_id uuid)
RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  run_status text;
BEGIN
  SELECT r.status INTO run_status FROM pgflow.runs AS r WHERE r.run_id = p_run_id FOR UPDATE;
  PERFORM FROM pgflow.step_states AS s WHERE s.run_id = p_run_id ORDER BY s.step_slug FOR UPDATE;
  RETURN run_status;
END
$$;

-- Queue the tasks of a run's started steps that have not completed as if they were new: a new message each, because the
-- old ones are archived and an old result shall not be taken for a new one; or only those that have stalled for good.
-- Returns how many.
CREATE FUNCTION pgflow._requeue_open_tasks(p_run_id uuid, only_stalled boolean)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  p_flow_slug text;
  open record;
BEGIN
  SELECT r.flow_slug INTO p_flow_slug FROM pgflow.runs AS r WHERE r.run_id = p_run_id;

  SELECT
    array_agg(t.step_slug) AS step_slugs,
    array_agg(t.task_index) AS task_indexes,
    array_agg(t.message_id) AS message_ids
  INTO open
  FROM (
    SELECT t.step_slug, t.task_index, t.message_id
    FROM pgflow.step_tasks AS t
    JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = t.step_slug AND s.status = 'started'
    WHERE t.run_id = p_run_id
      AND t.status IN ('queued', 'started', 'failed')
      AND (t.permanently_stalled_at IS NOT NULL OR NOT only_stalled)
    ORDER BY t.step_slug, t.task_index
    FOR UPDATE OF t
  ) AS t;
  IF open.step_slugs IS NULL THEN
    RETURN 0;
  END IF;

  PERFORM pgflow._archive_messages(array_fill(p_flow_slug, ARRAY[cardinality(open.message_ids)]), open.message_ids);

  UPDATE pgflow.step_tasks AS t
  SET
    status = 'queued',
    message_id = b.message_id,
    attempts_count = 0,
    queued_at = now(),
    started_at = NULL,
    failed_at = NULL,
    error_message = NULL,
    output = NULL,
    last_worker_id = NULL,
    requeued_count = 0,
    last_requeued_at = NULL,
    permanently_stalled_at = NULL
  FROM (
    SELECT b.step_slug, b.task_index, m.message_id
    FROM unnest(open.step_slugs, open.task_indexes) WITH ORDINALITY AS b (step_slug, task_index, position)
    JOIN pgmq.send_batch(
      p_flow_slug,
      ARRAY(
        SELECT jsonb_build_object(
          'flow_slug', p_flow_slug, 'run_id', p_run_id, 'step_slug', b.step_slug, 'task_index', b.task_index
        )
        FROM unnest(open.step_slugs, open.task_indexes) WITH ORDINALITY AS b (step_slug, task_index, position)
        ORDER BY b.position
      ),
      0
    ) WITH ORDINALITY AS m (message_id, position) ON m.position = b.position
  ) AS b
  WHERE t.run_id = p_run_id AND t.step_slug = b.step_slug AND t.task_index = b.task_index;

  PERFORM pgflow._wake_workers(ARRAY[p_flow_slug]);
  RETURN cardinality(open.step_slugs);
END
$$;

-- Ours: end a run that goes on. It fails, and its started steps with it; nobody starts its tasks any more, and what a worker
-- still reports of them comes too late. Returns 'cancelled', 'over' (it had ended) or 'unknown'.
CREATE FUNCTION pgflow.cancel_run(run_id uuid, reason text DEFAULT NULL, requested_by text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  status text := pgflow._lock_run(cancel_run.run_id);
  error CONSTANT text := 'Cancelled: ' || coalesce(reason, 'no reason was given');
  failed_slugs text[];
BEGIN
  IF status IS DISTINCT FROM 'started' THEN
    RETURN CASE WHEN status IS NULL THEN 'unknown' ELSE 'over' END;
  END IF;

  WITH failed AS (
    UPDATE pgflow.step_states AS s
    SET status = 'failed', failed_at = greatest(now(), s.started_at), error_message = error
    WHERE s.run_id = cancel_run.run_id AND s.status = 'started'
    RETURNING s.step_slug
  )
  SELECT array_agg(failed.step_slug ORDER BY failed.step_slug) INTO failed_slugs
  FROM failed;

  UPDATE pgflow.runs AS r
  SET status = 'failed', failed_at = greatest(now(), r.started_at)
  WHERE r.run_id = cancel_run.run_id;

  IF failed_slugs IS NOT NULL THEN
    PERFORM pgflow._emit_step_events('failed', array_fill(cancel_run.run_id, ARRAY[cardinality(failed_slugs)]), failed_slugs);
  END IF;
  PERFORM pgflow._emit_run_events('failed', ARRAY[cancel_run.run_id], ARRAY[error]);
  PERFORM pgflow._archive_open_messages(ARRAY[cancel_run.run_id]);

  INSERT INTO pgflow.run_interventions (run_id, action, requested_by, reason)
  VALUES (cancel_run.run_id, 'cancelled', coalesce(cancel_run.requested_by, session_user), cancel_run.reason);
  RETURN 'cancelled';
END
$$;

-- Ours: let a failed run go on: its failed steps, and of them and the others that had started all tasks that have not
-- completed, with attempts from zero and new messages, visible at once. What completed stays, and so does the history.
-- A condition that failed the run is looked at again. Of a run that goes on, the tasks that have stalled for good are queued
-- again. Returns 'retried', 'failed' (it was retried, and a condition failed it again), 'over' (it has completed), 'started'
-- (it goes on, and nothing has stalled) or 'unknown'.
CREATE FUNCTION pgflow.retry_run(run_id uuid, reason text DEFAULT NULL, requested_by text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  run_status text := pgflow._lock_run(retry_run.run_id);
  p_run_id CONSTANT uuid := retry_run.run_id;
  restarted_slugs text[];
  requeued int;
BEGIN
  IF run_status IS NULL OR run_status = 'completed' THEN
    RETURN CASE WHEN run_status IS NULL THEN 'unknown' ELSE 'over' END;
  END IF;

  IF run_status = 'failed' THEN
    UPDATE pgflow.runs AS r SET status = 'started', failed_at = NULL WHERE r.run_id = p_run_id;
    -- A step that failed before it started had no tasks.
    WITH restarted AS (
      UPDATE pgflow.step_states AS s
      SET
        status = CASE WHEN s.started_at IS NULL THEN 'created' ELSE 'started' END,
        failed_at = NULL,
        error_message = NULL,
        remaining_tasks = CASE
          WHEN s.started_at IS NOT NULL THEN (
            SELECT count(*)
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = p_run_id AND t.step_slug = s.step_slug AND t.status <> 'completed'
          )
        END
      WHERE s.run_id = p_run_id AND s.status = 'failed'
      RETURNING s.step_slug, s.status
    )
    SELECT array_agg(r.step_slug ORDER BY r.step_slug) FILTER (WHERE r.status = 'started') INTO restarted_slugs
    FROM restarted AS r;
    PERFORM pgflow._emit_run_events('started', ARRAY[p_run_id]);
    IF restarted_slugs IS NOT NULL THEN
      PERFORM pgflow._emit_step_events('started', array_fill(p_run_id, ARRAY[cardinality(restarted_slugs)]), restarted_slugs);
    END IF;
  END IF;

  requeued := pgflow._requeue_open_tasks(p_run_id, only_stalled => run_status = 'started');
  IF run_status = 'started' AND requeued = 0 THEN
    RETURN 'started';
  END IF;
  PERFORM pgflow._advance_runs(ARRAY[p_run_id]);

  INSERT INTO pgflow.run_interventions (run_id, action, requested_by, reason)
  VALUES (p_run_id, 'retried', coalesce(retry_run.requested_by, session_user), retry_run.reason);
  RETURN CASE
    WHEN (SELECT r.status FROM pgflow.runs AS r WHERE r.run_id = p_run_id) = 'failed' THEN 'failed'
    ELSE 'retried'
  END;
END
$$;

-- Hand back the tasks whose worker has been silent for 30 seconds more than their timeout: to their queue, visible at
-- once, with the attempt spent; after three times the task is marked as permanently stalled and its message archived.
-- Returns how many went back. Tasks that somebody is working on at this moment are passed over. A run with a task that has
-- stalled for good goes on for ever, as the contract has it: `retry_run` queues the task again, `cancel_run` ends the run.
CREATE FUNCTION pgflow.requeue_stalled_tasks()
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  requeued record;
BEGIN
  WITH stalled AS (
    SELECT t.run_id, t.step_slug, t.task_index, t.started_at, t.last_worker_id
    FROM pgflow.step_tasks AS t
    JOIN pgflow.step_states AS s ON s.run_id = t.run_id AND s.step_slug = t.step_slug AND s.status = 'started'
    JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
    JOIN pgflow.steps AS definition ON definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
    JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
    WHERE t.status = 'started'
      AND t.permanently_stalled_at IS NULL
      AND t.started_at < now() - interval '30 seconds'  -- implied by the next line, but of use to the index
      AND t.started_at < now() - make_interval(secs => coalesce(definition.opt_timeout, f.opt_timeout)::double precision + 30)
    FOR UPDATE OF t SKIP LOCKED
  ),
  changed AS (
    UPDATE pgflow.step_tasks AS t
    SET
      status = CASE WHEN t.requeued_count < 3 THEN 'queued' ELSE t.status END,
      started_at = CASE WHEN t.requeued_count >= 3 THEN t.started_at END,
      last_worker_id = CASE WHEN t.requeued_count >= 3 THEN t.last_worker_id END,
      last_requeued_at = CASE WHEN t.requeued_count < 3 THEN now() ELSE t.last_requeued_at END,
      permanently_stalled_at = CASE WHEN t.requeued_count >= 3 THEN now() END,
      requeued_count = least(t.requeued_count + 1, 3)
    FROM stalled
    WHERE t.run_id = stalled.run_id AND t.step_slug = stalled.step_slug AND t.task_index = stalled.task_index
    RETURNING
      t.flow_slug, t.run_id, t.step_slug, t.task_index, t.message_id, t.status, t.attempts_count,
      stalled.started_at, stalled.last_worker_id
  ),
  history AS (
    INSERT INTO pgflow.task_attempts (
      run_id, step_slug, task_index, attempt, outcome, worker_id, started_at, ended_at
    )
    SELECT
      c.run_id, c.step_slug, c.task_index, c.attempts_count,
      CASE c.status WHEN 'queued' THEN 'requeued' ELSE 'stalled' END,
      c.last_worker_id, c.started_at, now()
    FROM changed AS c
  )
  SELECT
    array_agg(c.flow_slug) FILTER (WHERE c.status = 'queued') AS flow_slugs,
    array_agg(c.message_id) FILTER (WHERE c.status = 'queued') AS message_ids,
    array_agg(0) FILTER (WHERE c.status = 'queued') AS delays,
    array_agg(c.flow_slug) FILTER (WHERE c.status = 'started') AS stalled_flow_slugs,
    array_agg(c.message_id) FILTER (WHERE c.status = 'started') AS stalled_message_ids
  INTO requeued
  FROM changed AS c;

  PERFORM pgflow._delay_messages(requeued.flow_slugs, requeued.message_ids, requeued.delays);
  PERFORM pgflow._archive_messages(requeued.stalled_flow_slugs, requeued.stalled_message_ids);
  RETURN coalesce(cardinality(requeued.flow_slugs), 0);
END
$$;

-- Let pg_cron call requeue_stalled_tasks: one job, however often this is called.
CREATE FUNCTION pgflow.setup_requeue_stalled_tasks_cron(cron_interval text DEFAULT '15 seconds')
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  job_id bigint;
BEGIN
  IF to_regnamespace('cron') IS NULL THEN
    RAISE EXCEPTION 'pg_cron is not installed in this database'
      USING HINT = 'Call pgflow.requeue_stalled_tasks() every 15 seconds by other means.';
  END IF;
  -- Dynamic, because pgflow is installed without pg_cron, and with literals, because the type of a job's name differs
  -- between its versions.
  BEGIN
    EXECUTE format('SELECT cron.unschedule(%L)', 'pgflow_requeue_stalled_tasks');
  EXCEPTION WHEN OTHERS THEN
    NULL;  -- there is no such job
  END;
  EXECUTE format(
    'SELECT cron.schedule(%L, %L, %L)',
    'pgflow_requeue_stalled_tasks', cron_interval, 'select pgflow.requeue_stalled_tasks()'
  ) INTO job_id;
  RETURN format('Scheduled pgflow_requeue_stalled_tasks (every %s, job_id=%s)', cron_interval, job_id);
END
$$;

-- Delete runs that have ended and are locked, with their steps, tasks, attempts and messages.
CREATE FUNCTION pgflow._delete_runs(run_ids uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pgmq.delete(m.flow_slug, m.message_ids)
  FROM (
    SELECT t.flow_slug, array_agg(t.message_id ORDER BY t.message_id) AS message_ids
    FROM pgflow.step_tasks AS t
    WHERE t.run_id = ANY(run_ids) AND t.message_id IS NOT NULL
    GROUP BY t.flow_slug
    ORDER BY t.flow_slug
    OFFSET 0
  ) AS m
  WHERE to_regclass(format('pgmq.%I', pgmq.format_table_name(m.flow_slug, 'q'))) IS NOT NULL;
  DELETE FROM pgflow.task_attempts AS a WHERE a.run_id = ANY(run_ids);
  DELETE FROM pgflow.step_tasks AS t WHERE t.run_id = ANY(run_ids);
  DELETE FROM pgflow.step_states AS s WHERE s.run_id = ANY(run_ids);
  DELETE FROM pgflow.runs AS r WHERE r.run_id = ANY(run_ids);
END
$$;

-- Delete what is older than the interval: runs that have ended, with their steps, tasks and messages; archived messages;
-- workers without a sign of life. A run that goes on is kept, whatever its age.
CREATE FUNCTION pgflow.prune_data_older_than(retention_interval interval)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  cutoff timestamptz := now() - retention_interval;
  old_runs uuid[];
  queue record;
BEGIN
  -- Locked in the order of all others; a run that somebody works on at this moment is left for the next time.
  SELECT array_agg(r.run_id) INTO old_runs
  FROM (
    SELECT r.run_id
    FROM pgflow.runs AS r
    WHERE r.completed_at < cutoff OR r.failed_at < cutoff
    ORDER BY r.run_id
    FOR UPDATE SKIP LOCKED
  ) AS r;

  PERFORM pgflow._delete_runs(old_runs);

  FOR queue IN
    SELECT pgmq.format_table_name(f.flow_slug, 'a') AS archive
    FROM pgflow.flows AS f
    ORDER BY f.flow_slug
  LOOP
    IF to_regclass(format('pgmq.%I', queue.archive)) IS NOT NULL THEN
      EXECUTE format('DELETE FROM pgmq.%I WHERE archived_at < $1', queue.archive) USING cutoff;
    END IF;
  END LOOP;

  -- Without its row nobody finds a worker with what it holds: first that is handed back.
  DELETE FROM pgflow.workers AS w
  WHERE w.last_heartbeat_at < cutoff
    AND NOT EXISTS (
      SELECT
      FROM pgflow.step_tasks AS t
      WHERE t.last_worker_id = w.worker_id AND t.status = 'started' AND t.permanently_stalled_at IS NULL
    );
END
$$;

-- Ours: of what prune_data_older_than deletes, at most p_limit runs, so that a table of millions can be pruned in short
-- transactions while workers run. It goes through the table once: from p_after, at first '(0,0)', to `last_row`, which is
-- NULL at the table's end. A run that somebody works on at this moment is left for the next time.
CREATE FUNCTION pgflow.prune_runs(p_older_than interval, p_limit int, p_after tid)
RETURNS TABLE (pruned int, last_row tid)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
SET enable_seqscan TO off
AS $$
DECLARE
  old_runs record;
BEGIN
  -- Runs have no index by their end, which every run would pay for; a range of rows needs none.
  SELECT array_agg(r.run_id) AS ids, max(r.ctid) AS last_row, count(*)::int AS count INTO old_runs
  FROM (
    SELECT r.run_id, r.ctid
    FROM pgflow.runs AS r
    WHERE r.ctid > p_after AND coalesce(r.completed_at, r.failed_at) < now() - p_older_than
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  ) AS r;
  PERFORM pgflow._delete_runs(old_runs.ids);
  RETURN QUERY SELECT old_runs.count, CASE WHEN old_runs.count >= p_limit THEN old_runs.last_row END;
END
$$;

-- Ours: delete at most p_limit messages of each flow's archive that were archived before so long; how many there were.
CREATE FUNCTION pgflow.prune_archives(p_older_than interval, p_limit int)
RETURNS bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  queue record;
  pruned bigint;
  total bigint := 0;
BEGIN
  FOR queue IN
    SELECT pgmq.format_table_name(f.flow_slug, 'a') AS archive
    FROM pgflow.flows AS f
    ORDER BY f.flow_slug
  LOOP
    CONTINUE WHEN to_regclass(format('pgmq.%I', queue.archive)) IS NULL;
    EXECUTE format(
      $query$
        DELETE FROM pgmq.%1$I AS a
        WHERE a.ctid = ANY(
          ARRAY(
            SELECT k.ctid FROM pgmq.%1$I AS k WHERE k.archived_at < $1 ORDER BY k.archived_at LIMIT $2 FOR UPDATE SKIP LOCKED
          )
        )
      $query$,
      queue.archive
    ) USING now() - p_older_than, p_limit;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    total := total + pruned;
  END LOOP;
  RETURN total;
END
$$;

-- Ours: delete at most p_limit workers without a sign of life since so long; how many there were. Few at a time: for each
-- of them PostgreSQL looks through all tasks, which have no index by their last worker.
--
-- Not those that hold tasks: without the row nobody finds them with what they hold, so first it is rescued. Nor those that
-- may be alive, whatever is asked for: they could claim nothing any more.
CREATE FUNCTION pgflow.prune_workers(p_older_than interval, p_limit int)
RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  pruned int;
BEGIN
  DELETE FROM pgflow.workers AS w
  WHERE w.worker_id = ANY(
    ARRAY(
      SELECT k.worker_id
      FROM pgflow.workers AS k
      WHERE k.last_heartbeat_at < now()
          - CASE WHEN k.stopped_at IS NULL THEN greatest(p_older_than, interval '1 minute') ELSE p_older_than END
        AND NOT EXISTS (
          SELECT
          FROM pgflow.step_tasks AS t
          WHERE t.last_worker_id = k.worker_id AND t.status = 'started' AND t.permanently_stalled_at IS NULL
        )
      ORDER BY k.last_heartbeat_at
      LIMIT p_limit
      FOR UPDATE SKIP LOCKED
    )
  );
  GET DIAGNOSTICS pruned = ROW_COUNT;
  RETURN pruned;
END
$$;

-- Make a worker's function known, or say that it was there again.
CREATE FUNCTION pgflow.track_worker_function(function_name text)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  INSERT INTO pgflow.worker_functions AS w (function_name, updated_at)
  VALUES (track_worker_function.function_name, clock_timestamp())
  ON CONFLICT ON CONSTRAINT worker_functions_pkey DO UPDATE SET updated_at = clock_timestamp()
$$;

-- Note that a worker has ended.
CREATE FUNCTION pgflow.mark_worker_stopped(worker_id uuid)
RETURNS void
LANGUAGE sql
SET search_path TO pg_catalog, pg_temp
AS $$
  UPDATE pgflow.workers AS w
  SET stopped_at = clock_timestamp()
  WHERE w.worker_id = mark_worker_stopped.worker_id
$$;

-- Nobody but the owner may use the schema until roles are granted what they need.
REVOKE ALL ON SCHEMA pgflow FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgflow FROM PUBLIC;

INSERT INTO pgflow.schema_versions (version, installed_by, definitions, digest) VALUES (4, 'pgflow-py 0.1.0', pgflow._definitions() - ARRAY(SELECT 'declaration of function pgflow.' || p.proname FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'pgflow'::regnamespace AND p.proname <> ALL ('{is_valid_slug,_definitions,_check_lengths,create_flow,add_step,delete_flow_and_data,is_local,_pattern_shape,_pattern_of_shape,_get_flow_shape,record_failures,_record_failures_of_shape,_create_flow_from_shape,_compare_flow_shapes,ensure_flow_compiled,_option_differences,update_flow_options,_wake_workers,set_vt_batch,calculate_retry_delay,_archive_messages,_delay_messages,_archive_task_message,_record_cancelled_attempts,_archive_open_messages,_lock_messages,_keep_messages_invisible,_lock_visible_messages,_hide_messages,_set_aside_messages,_has_realtime,_emits_events,_send_events,_emit_run_events,_emit_step_events,_lock_steps,_count_ended_steps,_release_dependents,_fail_steps,_skip_steps,_skip_steps_and_dependents,_cascade_force_skip_steps,_dependency_outputs,_resolve_conditions,cascade_resolve_conditions,_complete_taskless_steps,cascade_complete_taskless_steps,_start_ready_steps,start_ready_steps,_complete_runs,maybe_complete_run,_advance_runs,_start_runs,start_flow,start_flows,get_run_with_states,start_flow_with_states,_map_elements,_start_tasks,start_tasks,claim_tasks,poll_for_tasks,await_tasks,stop_awaiting_tasks,_look_at_tasks,_judge_tasks,_judge_outputs,_fail_type_violations,_complete_steps,_complete_ready_tasks,_complete_tasks,complete_tasks,complete_task,_retry_tasks,_exhaust_steps,_record_failed_tasks,_fail_exhausted_tasks,_fail_late_tasks,_give_up_tasks,_tell_cancelled_attempts,_fail_tasks,fail_tasks,fail_task,_hand_back_tasks,release_tasks,_tell_hand_backs,requeue_tasks,renew_tasks,_lock_run,_requeue_open_tasks,cancel_run,retry_run,requeue_stalled_tasks,setup_requeue_stalled_tasks_cron,_delete_runs,prune_data_older_than,prune_runs,prune_archives,prune_workers,track_worker_function,mark_worker_stopped}')), '6eb48b2297014d0ce2a3ac7e797a0aae5dec104fe72c9d920151ff38e78af5fd') ON CONFLICT (version) DO UPDATE SET installed_at = now(), installed_by = excluded.installed_by, definitions = excluded.definitions, digest = excluded.digest;
