-- The statements of executions and their log. Every writer of event_log holds the execution's row lock.

-- name: new_ids(count)
SELECT next_id() FROM generate_series(1, :count);

-- name: insert_execution(id, playbook_version_id, path, version, workload, idempotency_key, request_hash, created_by, meta, rerun_of, priority)
INSERT INTO execution (id, playbook_version_id, path, version, workload, idempotency_key, request_hash, created_by,
                       meta, rerun_of, priority)
VALUES (:id, :playbook_version_id, :path, :version, :workload::jsonb, :idempotency_key, :request_hash, :created_by,
        :meta::jsonb, :rerun_of, :priority)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now(), parent_execution_id,
          parent_node_id, depth, cancel_reason, created_by, rerun_of, priority;

-- name: find_start(idempotency_key)
SELECT id, request_hash FROM execution WHERE idempotency_key = :idempotency_key;

-- name: count_open(bound)
SELECT count(*) FROM (SELECT 1 FROM execution WHERE status IN ('pending', 'running', 'paused') LIMIT :bound) AS open;

-- name: lock_execution(execution_id)
-- The execution's lock (rules R1, R2): taken before any row of its queue.
SELECT id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now(), parent_execution_id,
       parent_node_id, depth, cancel_reason, created_by, rerun_of, priority
FROM execution WHERE id = :execution_id FOR NO KEY UPDATE;

-- name: lock_execution_if_free(execution_id)
SELECT id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now(), parent_execution_id,
       parent_node_id, depth, cancel_reason, created_by, rerun_of, priority
FROM execution WHERE id = :execution_id FOR NO KEY UPDATE SKIP LOCKED;

-- name: read_execution(execution_id)
SELECT id, playbook_version_id, status, workload::text, state::text, last_seq, clock_now(), parent_execution_id,
       parent_node_id, depth, cancel_reason, created_by, rerun_of, priority
FROM execution WHERE id = :execution_id;

-- name: read_view(execution_id)
SELECT e.id, e.playbook_version_id, e.path, e.version, e.status, e.workload::text, e.state::text,
       coalesce(r.data, e.result)::text, e.error::text, e.parent_execution_id, e.parent_node_id, e.rerun_of,
       e.created_at, e.started_at, e.ended_at, e.priority,
       (SELECT count(*) FROM execution child WHERE child.parent_execution_id = e.id)
FROM execution e
LEFT JOIN large_result r ON r.execution_id = e.id AND r.key = e.result_ref
WHERE e.id = :execution_id;

-- name: read_end(execution_id)
SELECT e.path, coalesce(r.data, e.result)::text, e.error::text, e.meta::text
FROM execution e
LEFT JOIN large_result r ON r.execution_id = e.id AND r.key = e.result_ref
WHERE e.id = :execution_id;

-- name: append_events(events)!
-- `events`: a JSON list of rows; `result` is JSON text in it.
INSERT INTO event_log (execution_id, seq, format, event_type, node_id, node_name, node_type, status, duration,
                       context, result, result_ref, meta, error, stack_trace, loop_name, current_index, current_item,
                       worker_id, posted_id)
SELECT execution_id, seq, format, event_type, node_id, node_name, node_type, status, duration,
       context, result::jsonb, result_ref, meta, error, stack_trace, loop_name, current_index, current_item,
       worker_id, posted_id
FROM json_to_recordset(:events::json) AS event (
    execution_id bigint, seq bigint, format smallint, event_type text, node_id text, node_name text, node_type text,
    status text, duration float8, context jsonb, result text, result_ref text, meta jsonb, error jsonb,
    stack_trace text, loop_name text, current_index int, current_item jsonb, worker_id text, posted_id text);

-- name: keep_large_results(execution_ids, keys, datas, sizes)!
-- The same text twice is one row.
INSERT INTO large_result (execution_id, key, data, bytes)
SELECT * FROM unnest(:execution_ids::bigint[], :keys::text[], :datas::jsonb[], :sizes::bigint[])
ON CONFLICT DO NOTHING;

-- name: large_results(execution_id, keys)
SELECT key, data::text FROM large_result WHERE execution_id = :execution_id AND key = ANY(:keys::text[]);

-- name: find_posted(execution_id, posted_id)
SELECT seq, node_id, event_type FROM event_log WHERE execution_id = :execution_id AND posted_id = :posted_id;

-- name: save_state(status, state, last_seq, result, result_ref, error, execution_id)!
-- Who is asked to cancel, and has not heard it yet, stays marked: it is heard by `evaluate_execution` alone.
UPDATE execution
SET status = :status, state = :state::jsonb, last_seq = :last_seq, result = coalesce(:result::jsonb, result),
    result_ref = coalesce(:result_ref, result_ref),
    error = coalesce(:error::jsonb, error), evaluation_failures = 0,
    needs_evaluation_since = CASE WHEN cancel_reason IS NOT NULL AND :status NOT IN ('completed', 'failed', 'cancelled')
                             THEN needs_evaluation_since END,
    evaluation_error = '', started_at = coalesce(started_at, clock_now()),
    ended_at = CASE WHEN :status IN ('completed', 'failed', 'cancelled') THEN coalesce(ended_at, clock_now()) END,
    cancel_reason = CASE WHEN :status IN ('completed', 'failed', 'cancelled') THEN NULL ELSE cancel_reason END,
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
  AND (status <> 'paused' OR cancel_reason IS NOT NULL)
  AND updated_at < clock_now() - make_interval(secs => least(60, :older_than_seconds * power(2, least(evaluation_failures, 10))))
ORDER BY needs_evaluation_since LIMIT :count;

-- name: without_work(first_id, last_id, older_than_seconds, count)
-- Executions that have not ended and own no queued job, no lease, no timer, no child, no wait and no evaluation to come.
-- Of each there is to be something at all times: what changes it changes the execution with it, in one transaction.
-- The timer of the whole execution ends it, and nothing goes on by it.
-- Waits stand in the log alone, and an index finds them; those of before an undoing or `finally` were called off by it.
WITH idle AS MATERIALIZED (
    SELECT e.id FROM execution e
    WHERE e.id BETWEEN :first_id AND :last_id AND e.status IN ('pending', 'running')
      AND e.needs_evaluation_since IS NULL
      AND e.updated_at <= clock_now() - make_interval(secs => :older_than_seconds)
      AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.execution_id = e.id AND q.status IN ('queued', 'leased'))
      AND NOT EXISTS (SELECT 1 FROM timer t WHERE t.execution_id = e.id AND t.kind <> 'late'
                      AND t.node_id <> e.id::text)
      AND NOT EXISTS (SELECT 1 FROM execution c WHERE c.parent_execution_id = e.id AND c.parent_waits)
)
SELECT idle.id FROM idle
WHERE 0 = (
    SELECT count(*) FROM event_log w
    WHERE w.execution_id = idle.id AND w.event_type = 'wait_started'
      AND w.context ->> 'kind' IN ('signal', 'approval')
      AND NOT EXISTS (SELECT 1 FROM event_log o WHERE o.execution_id = w.execution_id AND o.node_id = w.node_id
                      AND o.event_type IN ('wait_completed', 'step_failed'))
      AND NOT EXISTS (SELECT 1 FROM event_log p WHERE p.execution_id = w.execution_id AND p.seq > w.seq
                      AND p.event_type IN ('undo_started', 'finally_started', 'notifying_started')))
ORDER BY idle.id LIMIT :count;

-- name: events_since(execution_id, seq, whole)
-- `whole`: with large results in the place of their references.
SELECT l.seq, l.event_type, l.node_id, l.node_name, l.node_type, l.status, l.context::text,
       coalesce(r.data, l.result)::text, l.meta::text, l.error::text, l.stack_trace, l.loop_name, l.current_index,
       l.current_item::text, l.duration, l.worker_id, l.format
FROM event_log l
LEFT JOIN large_result r ON :whole AND r.execution_id = l.execution_id AND r.key = l.result_ref
WHERE l.execution_id = :execution_id AND l.seq > :seq ORDER BY l.seq;

-- name: event_times(execution_id)
SELECT seq, "timestamp" FROM event_log WHERE execution_id = :execution_id;

-- name: step_outcomes(execution_id, node_ids)
-- Two parts, each with the predicate of one partial index: found by node, whatever the length of the log.
SELECT o.node_id, o.event_type, o.status, coalesce(r.data, o.result)::text, o.error::text,
       CASE WHEN o.event_type IN ('step_completed', 'step_failed') THEN o.meta::text END
FROM (
    SELECT * FROM event_log
    WHERE execution_id = :execution_id AND node_id = ANY(:node_ids::text[])
      AND event_type IN ('action_completed', 'action_error', 'child_completed', 'wait_completed',
                         'loop_iteration_completed')
    UNION ALL
    SELECT * FROM event_log
    WHERE execution_id = :execution_id AND node_id = ANY(:node_ids::text[])
      AND event_type IN ('step_completed', 'step_failed', 'step_skip')
) AS o
LEFT JOIN large_result r ON r.execution_id = o.execution_id AND r.key = o.result_ref
ORDER BY o.seq;

-- name: outcomes_below(execution_id, prefix, after)
-- All outcomes at node ids from `prefix` to before `after`, compared byte by byte as their indexes are.
SELECT o.node_id, o.event_type, o.status, coalesce(r.data, o.result)::text, o.error::text,
       CASE WHEN o.event_type IN ('step_completed', 'step_failed') THEN o.meta::text END
FROM (
    SELECT * FROM event_log
    WHERE execution_id = :execution_id AND node_id ~>=~ :prefix AND node_id ~<~ :after
      AND event_type IN ('action_completed', 'action_error', 'child_completed', 'wait_completed',
                         'loop_iteration_completed')
    UNION ALL
    SELECT * FROM event_log
    WHERE execution_id = :execution_id AND node_id ~>=~ :prefix AND node_id ~<~ :after
      AND event_type IN ('step_completed', 'step_failed', 'step_skip')
) AS o
LEFT JOIN large_result r ON r.execution_id = o.execution_id AND r.key = o.result_ref
ORDER BY o.seq;

-- name: recorded_successes(execution_id, node_ids)
SELECT l.node_id, coalesce(r.data, l.result)::text, l.meta ->> 'reused_from'
FROM event_log l
LEFT JOIN large_result r ON r.execution_id = l.execution_id AND r.key = l.result_ref
WHERE l.execution_id = :execution_id AND l.node_id = ANY(:node_ids::text[]) AND l.status = 'success'
  AND l.event_type IN ('action_completed', 'child_completed');

-- name: transition_inputs(execution_id, seqs)
SELECT seq, (context -> 'taken')::text FROM event_log
WHERE execution_id = :execution_id AND seq = ANY(:seqs::bigint[]);

-- name: loop_items(execution_id, node_ids, indexes)
-- The items of a loop are unpacked once, and not for each of them that is wanted.
WITH loop AS MATERIALIZED (
    SELECT l.node_id, l.context -> 'items' AS items FROM event_log l
    WHERE l.execution_id = :execution_id AND l.node_id = ANY(:node_ids::text[]) AND l.event_type = 'loop_start')
SELECT wanted.node_id, wanted.index, (loop.items -> wanted.index)::text
FROM unnest(:node_ids::text[], :indexes::int[]) AS wanted (node_id, index)
JOIN loop ON loop.node_id = wanted.node_id
WHERE wanted.index < jsonb_array_length(loop.items);

-- name: kept_results(execution_id, seqs)
SELECT l.seq, coalesce(r.data, l.result)::text
FROM event_log l
LEFT JOIN large_result r ON r.execution_id = l.execution_id AND r.key = l.result_ref
WHERE l.execution_id = :execution_id AND l.seq = ANY(:seqs::bigint[]);

-- name: signal_data(execution_id, seqs)
SELECT seq, (context -> 'data')::text FROM event_log
WHERE execution_id = :execution_id AND seq = ANY(:seqs::bigint[]) AND event_type = 'signal_received';

-- name: completed_steps(execution_id)
-- The nodes of the steps that have completed, in their order. The end of an execution asks for them, once.
SELECT node_id FROM event_log
WHERE execution_id = :execution_id AND event_type = 'step_completed'
ORDER BY seq;

-- name: count_items(execution_id, loop_name, prefix, visit)
-- Of the loop at one node, by the beginning of its items' ids.
SELECT count(*) FILTER (WHERE status = 'success'), count(*) FILTER (WHERE status <> 'success')
FROM event_log
WHERE execution_id = :execution_id AND loop_name = :loop_name
  AND starts_with(node_id, :prefix) AND split_part(node_id, '#', 2) = :visit
  AND strpos(substr(node_id, length(:prefix) + 1), ':') = 0
  AND event_type IN ('action_completed', 'action_error', 'child_completed', 'loop_iteration_completed');

-- name: open_approvals(execution_id)
-- Where an approval has been asked for and neither answered nor ended.
SELECT w.node_id, w.node_name FROM event_log w
WHERE w.execution_id = :execution_id AND w.event_type = 'wait_started' AND w.context ->> 'kind' = 'approval'
  AND NOT EXISTS (SELECT 1 FROM event_log o WHERE o.execution_id = w.execution_id AND o.node_id = w.node_id
                  AND o.event_type IN ('wait_completed', 'signal_received', 'step_completed', 'step_failed'))
ORDER BY w.seq;

-- name: append_lines(execution_id, lines, count, bytes, most_bytes)!
-- `lines`: a JSON list of rows, `place` from 1. What is over the bound is counted and not kept: `bytes` of the totals are
-- those of all lines that came. The row of totals is locked before a line is numbered, until the transaction ends.
WITH total AS (
    INSERT INTO action_log_total AS t (execution_id, lines, bytes)
    VALUES (:execution_id, :count::bigint, :bytes::bigint)
    ON CONFLICT (execution_id) DO UPDATE
    SET lines = t.lines + CASE WHEN t.bytes < :most_bytes::bigint THEN EXCLUDED.lines ELSE 0 END,
        dropped = t.dropped + CASE WHEN t.bytes < :most_bytes::bigint THEN 0 ELSE EXCLUDED.lines END,
        bytes = t.bytes + EXCLUDED.bytes
    RETURNING lines, bytes
)
INSERT INTO action_log (execution_id, seq, at, node_id, step, attempt, item_index, stream, level, text)
SELECT :execution_id, total.lines - :count::bigint + line.place, line.at, line.node_id, line.step, line.attempt,
       line.item_index, line.stream, line.level, line.text
FROM total CROSS JOIN json_to_recordset(:lines::json) AS line (
    place int, at timestamptz, node_id text, step text, attempt int, item_index int, stream text, level text, text text)
WHERE total.bytes - :bytes::bigint < :most_bytes::bigint;

-- name: dropped_lines(execution_id)
SELECT dropped FROM action_log_total WHERE execution_id = :execution_id;

-- name: logging_steps(execution_id)
-- One look into the index per step, however many lines each has.
WITH RECURSIVE found AS (
    (SELECT step FROM action_log WHERE execution_id = :execution_id ORDER BY step LIMIT 1)
    UNION ALL
    SELECT (SELECT l.step FROM action_log l WHERE l.execution_id = :execution_id AND l.step > found.step
            ORDER BY l.step LIMIT 1)
    FROM found WHERE found.step IS NOT NULL
)
SELECT step FROM found WHERE step IS NOT NULL;
