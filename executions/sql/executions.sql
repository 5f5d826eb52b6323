-- The statements of executions and their log. Every writer of event_log holds the execution's row lock.

-- name: new_id()
SELECT next_id();

-- name: insert_execution(id, playbook_version_id, path, version, workload, idempotency_key, request_hash, created_by, meta, parent_execution_id, parent_node_id)
INSERT INTO execution (id, playbook_version_id, path, version, workload, idempotency_key, request_hash, created_by,
                       meta, parent_execution_id, parent_node_id)
VALUES (:id, :playbook_version_id, :path, :version, :workload::jsonb, :idempotency_key, :request_hash, :created_by,
        :meta::jsonb, :parent_execution_id, :parent_node_id)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id;

-- name: find_start(idempotency_key)
SELECT id, request_hash FROM execution WHERE idempotency_key = :idempotency_key;

-- name: lock_execution(execution_id)
-- The execution's lock (rules R1, R2): taken before any row of its queue.
SELECT id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now()
FROM execution WHERE id = :execution_id FOR NO KEY UPDATE;

-- name: lock_execution_if_free(execution_id)
SELECT id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now()
FROM execution WHERE id = :execution_id FOR NO KEY UPDATE SKIP LOCKED;

-- name: read_execution(execution_id)
SELECT id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now()
FROM execution WHERE id = :execution_id;

-- name: append_events(execution_id, seqs, formats, types, node_ids, node_names, node_types, statuses, durations, contexts, results, metas, errors, stack_traces, loop_names, indexes, items, worker_ids, posted_ids)!
INSERT INTO event_log (execution_id, seq, format, event_type, node_id, node_name, node_type, status, duration,
                       context, result, meta, error, stack_trace, loop_name, current_index, current_item,
                       worker_id, posted_id)
SELECT :execution_id, seq, format, event_type, node_id, node_name, node_type, status, duration, context, result, meta,
       error, stack_trace, loop_name, current_index, current_item, worker_id, posted_id
FROM unnest(
    :seqs::bigint[], :formats::smallint[], :types::text[], :node_ids::text[], :node_names::text[],
    :node_types::text[], :statuses::text[], :durations::float8[], :contexts::jsonb[], :results::jsonb[],
    :metas::jsonb[], :errors::jsonb[], :stack_traces::text[], :loop_names::text[], :indexes::int[],
    :items::jsonb[], :worker_ids::text[], :posted_ids::text[])
    AS event (seq, format, event_type, node_id, node_name, node_type, status, duration, context, result, meta, error,
              stack_trace, loop_name, current_index, current_item, worker_id, posted_id);

-- name: posted_id(execution_id, posted_id)
SELECT seq FROM event_log WHERE execution_id = :execution_id AND posted_id = :posted_id;

-- name: save_state(status, state, last_seq, result, error, execution_id)!
UPDATE execution
SET status = :status, state = :state::jsonb, last_seq = :last_seq, result = coalesce(:result::jsonb, result),
    error = coalesce(:error::jsonb, error), needs_evaluation_since = NULL, evaluation_failures = 0,
    evaluation_error = '', started_at = coalesce(started_at, clock_now()),
    ended_at = CASE WHEN :status IN ('completed', 'failed', 'cancelled') THEN coalesce(ended_at, clock_now()) END,
    updated_at = clock_now()
WHERE id = :execution_id;

-- name: mark_for_evaluation(last_seq, failed, error, execution_id)!
UPDATE execution
SET last_seq = :last_seq, needs_evaluation_since = coalesce(needs_evaluation_since, clock_now()),
    evaluation_failures = evaluation_failures + :failed, evaluation_error = :error, updated_at = clock_now()
WHERE id = :execution_id;

-- name: set_last_seq(last_seq, execution_id)!
UPDATE execution SET last_seq = :last_seq, updated_at = clock_now() WHERE id = :execution_id;

-- name: to_evaluate(older_than_seconds, count)
-- Executions whose evaluation was put off; one that keeps failing is tried less and less often.
SELECT id FROM execution
WHERE needs_evaluation_since < clock_now() - make_interval(secs => :older_than_seconds)
  AND updated_at < clock_now() - make_interval(secs => least(60, :older_than_seconds * power(2, least(evaluation_failures, 10))))
ORDER BY needs_evaluation_since LIMIT :count;

-- name: events_since(execution_id, seq)
SELECT seq, event_type, node_id, node_name, node_type, status, context::text, result::text, meta::text, error::text,
       stack_trace, loop_name, current_index, current_item::text, duration, worker_id
FROM event_log WHERE execution_id = :execution_id AND seq > :seq ORDER BY seq;

-- name: step_outcomes(execution_id, node_ids)
-- Two parts, each with the predicate of one partial index: found by node, whatever the length of the log.
SELECT node_id, event_type, result::text, error::text FROM (
    SELECT node_id, event_type, result, error, seq FROM event_log
    WHERE execution_id = :execution_id AND node_id = ANY(:node_ids::text[])
      AND event_type IN ('action_completed', 'action_error')
    UNION ALL
    SELECT node_id, event_type, result, error, seq FROM event_log
    WHERE execution_id = :execution_id AND node_id = ANY(:node_ids::text[])
      AND event_type IN ('step_completed', 'step_failed', 'step_skip')
) AS outcome
ORDER BY seq;

-- name: item_outcomes(execution_id, loop_name, visit)
-- The outcomes of a loop's items, by the loop's step and its visit.
SELECT current_index, event_type, result::text, error::text FROM event_log
WHERE execution_id = :execution_id AND event_type IN ('action_completed', 'action_error')
  AND loop_name = :loop_name AND split_part(node_id, '#', 2) = :visit
ORDER BY current_index;

-- name: transition_inputs(execution_id, seqs)
SELECT seq, (context -> 'taken')::text FROM event_log
WHERE execution_id = :execution_id AND seq = ANY(:seqs::bigint[]);

-- name: loop_items(execution_id, node_ids)
SELECT node_id, (context -> 'items')::text FROM event_log
WHERE execution_id = :execution_id AND node_id = ANY(:node_ids::text[]) AND event_type = 'loop_start';

-- name: count_items(execution_id, loop_name, visit)
SELECT count(*) FILTER (WHERE event_type = 'action_completed'), count(*) FILTER (WHERE event_type = 'action_error')
FROM event_log
WHERE execution_id = :execution_id AND loop_name = :loop_name
  AND split_part(node_id, '#', 2) = :visit
  AND event_type IN ('action_completed', 'action_error');
