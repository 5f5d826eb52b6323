-- The invariants of the platform, one statement each: a row is a violation (execution_id, what is wrong).
-- All run in one transaction that sees one moment (REPEATABLE READ). That every execution owns something is judged by the
-- statement that the reconciler's repair goes by (`without_work` of the executions).

-- name: ended_execution_has_no_queued_job()
SELECT e.id, format('is %%s and job %%s is still queued', e.status, q.id)
FROM execution e JOIN queue q ON q.execution_id = e.id
WHERE e.status IN ('completed', 'failed', 'cancelled') AND q.status = 'queued';

-- name: seq_is_dense()
SELECT execution_id, format('has %%s events and the newest is %%s', count(*), max(seq)) FROM event_log
GROUP BY execution_id HAVING count(*) <> max(seq) OR min(seq) <> 1;

-- name: last_seq_is_the_logs()
SELECT e.id, format('says last_seq %%s and its log ends at %%s', e.last_seq, coalesce(l.newest, 0))
FROM execution e
LEFT JOIN (SELECT execution_id, max(seq) AS newest FROM event_log GROUP BY execution_id) l ON l.execution_id = e.id
WHERE e.last_seq <> coalesce(l.newest, 0);

-- name: one_start_per_execution()
SELECT e.id, 'has no execution_start as its first event' FROM execution e
WHERE NOT EXISTS (SELECT 1 FROM event_log l
                  WHERE l.execution_id = e.id AND l.seq = 1 AND l.event_type = 'execution_start');

-- name: terminal_event_matches_status()
SELECT e.id, format('is %%s and its terminal event is %%s', e.status, coalesce(l.event_type, 'missing'))
FROM execution e
LEFT JOIN event_log l ON l.execution_id = e.id
    AND l.event_type IN ('execution_completed', 'execution_failed', 'execution_cancelled')
WHERE CASE WHEN e.status IN ('completed', 'failed', 'cancelled')
           THEN l.event_type IS DISTINCT FROM 'execution_' || e.status
           ELSE l.event_type IS NOT NULL END;

-- name: one_outcome_per_node()
SELECT execution_id, format('has %%s outcomes at %%s', count(*), node_id) FROM event_log
WHERE event_type IN ('action_completed', 'action_error', 'child_completed', 'wait_completed',
                     'loop_iteration_completed')
GROUP BY execution_id, node_id HAVING count(*) > 1;

-- name: finished_job_has_its_outcome()
-- What the queue calls done or failed was accepted under a lease, and its outcome is in the log.
SELECT q.execution_id, format('job %%s at %%s is %%s without an outcome in the log', q.id, q.node_id, q.status)
FROM queue q
WHERE q.origin = 'engine' AND q.status IN ('done', 'failed', 'dead') AND NOT EXISTS (
    SELECT 1 FROM event_log l WHERE l.execution_id = q.execution_id AND l.node_id = q.node_id
      AND l.event_type = CASE q.status WHEN 'done' THEN 'action_completed' ELSE 'action_error' END)
  AND NOT EXISTS (
    SELECT 1 FROM event_log l WHERE l.execution_id = q.execution_id AND l.node_id = q.node_id
      AND l.event_type = 'late_result' AND l.meta ->> 'job_id' = q.id::text)
  AND NOT (q.status = 'dead' AND EXISTS (
    SELECT 1 FROM execution e WHERE e.id = q.execution_id AND e.status IN ('completed', 'failed', 'cancelled')));

-- name: running_node_has_its_job()
-- A step, an item or a save that has started and not ended is in the queue, is run by a child, waits, or holds other steps;
-- or its outcome is still to be evaluated. What was called off with the item around it, or with all that ran when the
-- execution failed, has left a cancelled job or child, or came before the undoing.
SELECT l.execution_id, format('%%s has started and has no job', l.node_id)
FROM event_log l
JOIN execution e ON e.id = l.execution_id AND e.status = 'running' AND e.needs_evaluation_since IS NULL
WHERE l.event_type IN ('step_started', 'loop_iteration', 'save_started')
  AND NOT EXISTS (SELECT 1 FROM event_log o WHERE o.execution_id = l.execution_id AND o.node_id = l.node_id
                  AND o.event_type IN ('step_completed', 'step_failed', 'action_completed', 'action_error',
                                       'child_completed', 'wait_started', 'loop_start', 'loop_iteration_completed',
                                       'transition_evaluated'))
  AND NOT EXISTS (SELECT 1 FROM event_log u WHERE u.execution_id = l.execution_id AND u.seq > l.seq
                  AND u.event_type IN ('undo_started', 'finally_started', 'notifying_started'))
  AND NOT EXISTS (SELECT 1 FROM execution c WHERE c.parent_execution_id = l.execution_id
                  AND c.parent_node_id = l.node_id)
  AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.execution_id = l.execution_id AND q.node_id IN (l.node_id, l.node_id || '#save')
                  AND (q.status IN ('queued', 'leased') OR q.cancel_requested_at IS NOT NULL));

-- name: cancelled_job_was_called_off()
SELECT execution_id, format('job %%s is cancelled and nobody has called it off', id)
FROM queue WHERE status = 'cancelled' AND cancel_requested_at IS NULL;

-- name: held_job_has_a_paused_execution()
SELECT q.execution_id, format('job %%s is %%s and its execution is %%s', q.id,
                              CASE WHEN q.held THEN 'held' ELSE 'not held' END, e.status)
FROM queue q JOIN execution e ON e.id = q.execution_id
WHERE q.status = 'queued' AND q.held <> (e.status = 'paused');

-- name: ended_execution_has_no_timer()
SELECT t.execution_id, format('is %%s and has a timer at %%s', coalesce(e.status, 'not there'), t.node_id)
FROM timer t LEFT JOIN execution e ON e.id = t.execution_id
WHERE e.status IS NULL OR e.status IN ('completed', 'failed', 'cancelled');

-- name: due_timer_is_fired()
-- The reconciler looks every half second.
SELECT execution_id, format('the timer at %%s has been due since %%s', node_id, due_at) FROM timer
WHERE due_at < clock_now() - interval '60 seconds';

-- name: ended_execution_waits_for_no_child()
SELECT p.id, format('is %%s and still waits for its child %%s', coalesce(p.status, 'not there'), c.id)
FROM execution c LEFT JOIN execution p ON p.id = c.parent_execution_id
WHERE c.parent_waits AND (p.status IS NULL OR p.status IN ('completed', 'failed', 'cancelled'));

-- name: unwanted_child_is_cancelled()
-- A child that runs and that nothing waits for was asked to cancel.
SELECT c.id, format('runs, and its parent %%s waits for it no more', c.parent_execution_id)
FROM execution c
WHERE c.parent_execution_id IS NOT NULL AND NOT c.parent_waits AND c.cancel_reason IS NULL
  AND c.status IN ('pending', 'running', 'paused')
  AND NOT EXISTS (SELECT 1 FROM event_log l WHERE l.execution_id = c.id AND l.event_type = 'cancel_requested');

-- name: ended_child_is_told()
SELECT p.id, format('was not told that its child %%s is %%s since %%s', c.id, c.status, c.ended_at)
FROM execution c JOIN execution p ON p.id = c.parent_execution_id
WHERE c.parent_waits AND c.ended_at < clock_now() - interval '60 seconds';

-- name: child_has_its_parents_word()
-- What the parent's log says of a child is true of it.
SELECT l.execution_id, format('tells at %%s of the child %%s, which is %%s', l.node_id, l.context ->> 'execution_id',
                              coalesce(c.status, 'not there'))
FROM event_log l
LEFT JOIN execution c ON c.id = (l.context ->> 'execution_id')::bigint
    AND c.parent_execution_id = l.execution_id AND c.parent_node_id = l.node_id
WHERE l.event_type IN ('child_started', 'child_completed') AND l.context ->> 'execution_id' IS NOT NULL
  AND (c.id IS NULL
       OR (l.event_type = 'child_completed'
           AND (c.parent_waits OR c.status NOT IN ('completed', 'failed', 'cancelled'))));

-- name: large_result_is_there()
SELECT l.execution_id, format('refers at %%s to a result that is not there', l.node_id)
FROM event_log l
WHERE l.result_ref IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM large_result r WHERE r.execution_id = l.execution_id AND r.key = l.result_ref);

-- name: log_lines_are_counted()
-- Lines are numbered densely, and none is missing from the totals: who reads on from a number sees all.
SELECT coalesce(l.execution_id, t.execution_id),
       format('has %%s log lines up to %%s and counts %%s', coalesce(l.lines, 0), coalesce(l.newest, 0), t.lines)
FROM (SELECT execution_id, count(*) AS lines, min(seq) AS oldest, max(seq) AS newest FROM action_log
      GROUP BY execution_id) AS l
FULL JOIN action_log_total t ON t.execution_id = l.execution_id
WHERE t.lines IS DISTINCT FROM coalesce(l.lines, 0) OR l.newest <> l.lines OR l.oldest <> 1;

-- name: nothing_without_its_execution()
SELECT orphan.execution_id, format('has %%s and no execution', orphan.what)
FROM (SELECT DISTINCT execution_id, 'events' AS what FROM event_log
      UNION SELECT DISTINCT execution_id, 'jobs' FROM queue WHERE origin = 'engine'
      UNION SELECT execution_id, 'lines of logs' FROM action_log_total) AS orphan
WHERE NOT EXISTS (SELECT 1 FROM execution e WHERE e.id = orphan.execution_id);

-- name: held_lease_is_open()
SELECT q.execution_id, format('job %%s is leased and its lease is ended or missing in the history', q.id)
FROM queue q
WHERE q.status = 'leased' AND NOT EXISTS (
    SELECT 1 FROM lease_history h
    WHERE h.job_id = q.id AND h.attempt = q.attempts AND h.lease_token = q.lease_token AND h.ending IS NULL);

-- name: result_is_the_logs()
SELECT e.id, 'has a result or an error that its terminal event has not'
FROM execution e JOIN event_log l ON l.execution_id = e.id
    AND l.event_type IN ('execution_completed', 'execution_failed')
WHERE l.result IS DISTINCT FROM e.result OR l.result_ref IS DISTINCT FROM e.result_ref
   OR l.error IS DISTINCT FROM e.error;

-- name: outcome_has_its_job()
SELECT l.execution_id, format('has an outcome at %%s and its job is %%s', l.node_id, coalesce(q.status, 'missing'))
FROM event_log l LEFT JOIN queue q ON q.execution_id = l.execution_id AND q.node_id = l.node_id
WHERE l.event_type IN ('action_completed', 'action_error') AND l.meta ? 'job_id'
  AND (q.status IS NULL OR q.status IN ('queued', 'leased'));

-- name: accepted_lease_is_in_history()
SELECT q.execution_id, format('job %%s was accepted under a lease that its history does not know', q.id)
FROM queue q
WHERE q.accepted_token IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM lease_history h WHERE h.job_id = q.id AND h.lease_token = q.accepted_token
      AND h.attempt = q.attempts AND h.ending = q.status);

-- name: accepted_once()
SELECT execution_id, format('job %%s was accepted %%s times', job_id, count(*)) FROM lease_history
WHERE ending IN ('done', 'failed') GROUP BY execution_id, job_id HAVING count(*) > 1;

-- name: attempts_are_the_leases()
SELECT q.execution_id, format('job %%s counts %%s attempts and has %%s leases', q.id, q.attempts, count(h.id))
FROM queue q LEFT JOIN lease_history h ON h.job_id = q.id
GROUP BY q.execution_id, q.id, q.attempts HAVING q.attempts <> count(h.id);

-- name: open_lease_is_held()
SELECT h.execution_id, format('lease %%s of job %%s is open and nobody holds it', h.attempt, h.job_id)
FROM lease_history h LEFT JOIN queue q ON q.id = h.job_id
WHERE h.ending IS NULL AND (q.status IS DISTINCT FROM 'leased' OR q.attempts <> h.attempt);

-- name: expired_lease_is_reaped()
-- The reconciler looks every half second: a lease that ran out a minute ago tells that nobody looks.
SELECT execution_id, format('job %%s has held a lease past its time since %%s', id, lease_until) FROM queue
WHERE status = 'leased' AND lease_until < clock_now() - interval '60 seconds';

-- name: no_key_above_its_limit()
SELECT min(q.execution_id), format('%%s jobs with the key %%s are leased, and %%s are allowed', count(*), k.key,
                                   max(k.most))
FROM queue q CROSS JOIN LATERAL unnest(q.limit_keys, q.limit_maxs) AS k (key, most)
WHERE q.status = 'leased'
GROUP BY k.key HAVING count(*) > max(k.most);

-- name: parked_job_has_no_room()
-- Who waits for a key waits for those that have it: leased, or ready in its pool. The reconciler looks every half
-- second, so only what has not moved for a minute is told.
SELECT p.execution_id, format('%%s jobs wait for room at the key %%s, which has room', p.jobs, p.key)
FROM (SELECT min(execution_id) AS execution_id, count(*) AS jobs, parked_by AS key, pool,
             min(limit_maxs[array_position(limit_keys, parked_by)]) AS most
      FROM queue WHERE status = 'queued' AND NOT held AND parked_by IS NOT NULL GROUP BY parked_by, pool) AS p
WHERE p.most > (SELECT count(*) FROM queue q
                WHERE q.limit_keys IS NOT NULL AND p.key = ANY(q.limit_keys) AND q.parked_by IS NULL
                  AND (q.status = 'leased' OR (q.status = 'queued' AND NOT q.held AND q.pool = p.pool)))
  AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.limit_keys IS NOT NULL AND p.key = ANY(q.limit_keys)
                  AND q.updated_at > clock_now() - interval '60 seconds');

-- name: waiting_job_has_a_worker()
-- A job that has been ready for a minute is in a pool that somebody serves, where anybody is there to serve.
SELECT min(q.execution_id), format('%%s jobs wait in the pool %%s, which no worker serves', count(*), q.pool)
FROM queue q
WHERE q.status = 'queued' AND NOT q.held AND q.parked_by IS NULL
  AND q.available_at < clock_now() - interval '60 seconds' AND q.updated_at < clock_now() - interval '60 seconds'
  AND EXISTS (SELECT 1 FROM runtime r WHERE r.component_type = 'worker_pool' AND r.status = 'ready')
  AND NOT EXISTS (SELECT 1 FROM runtime r
                  WHERE r.component_type = 'worker_pool' AND r.status = 'ready'
                    AND r.labels -> 'queues' @> ANY(ARRAY[to_jsonb(q.pool), to_jsonb('noetl.' || q.pool)]))
GROUP BY q.pool;

-- name: evaluation_is_not_stuck()
SELECT id, format('evaluation has failed %%s times: %%s', evaluation_failures, evaluation_error) FROM execution
WHERE evaluation_failures >= 3;

-- name: executions_to_fold(after, count)
SELECT id FROM execution WHERE state IS NOT NULL AND id > :after ORDER BY id LIMIT :count;
