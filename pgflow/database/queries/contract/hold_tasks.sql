-- What start_tasks does not tell of the tasks it has started; only of those that are ours: where two workers start one
-- message's task at once, some cores give it to both. The visibility is set here, for cores that do not; the delay is that of
-- calculate_retry_delay, whose numbers overflow on some cores.
WITH held AS (
  SELECT
    t.flow_slug,
    t.run_id::text AS run_id,
    t.step_slug,
    t.task_index,
    t.attempts_count AS attempt,
    t.message_id AS msg_id,
    CASE
      WHEN definition.step_type = 'map' THEN 'map'
      WHEN definition.deps_count = 0 THEN 'root'
      ELSE 'dependent'
    END AS kind,
    coalesce(definition.opt_timeout, f.opt_timeout) AS timeout,
    coalesce(definition.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
    CASE
      WHEN t.attempts_count < coalesce(definition.opt_max_attempts, f.opt_max_attempts)
        THEN least(
          floor(
            coalesce(definition.opt_base_delay, f.opt_base_delay) * power(2::numeric, least(t.attempts_count, 64))
          ),
          2147483647
        )::int
    END AS retry_delay
  FROM pgflow.step_tasks AS t
  JOIN pgflow.steps AS definition ON definition.flow_slug = t.flow_slug AND definition.step_slug = t.step_slug
  JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
  WHERE t.message_id = ANY(%(message_ids)s::bigint[])
    AND t.flow_slug = %(flow_slug)s
    AND t.status = 'started'
    AND t.last_worker_id = %(worker_id)s::uuid
),
visible AS (
  SELECT count(*)
  FROM (SELECT array_agg(held.msg_id) AS msg_ids, array_agg(held.timeout + 2) AS offsets FROM held) AS h
  CROSS JOIN LATERAL pgflow.set_vt_batch(%(flow_slug)s, h.msg_ids, h.offsets)
)
SELECT held.*
FROM held
CROSS JOIN visible
