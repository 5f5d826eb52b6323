-- The invariants of the platform, one statement each: a row is a violation (execution_id, what is wrong).
-- All run in one transaction that sees one moment (REPEATABLE READ).

-- name: live_execution_has_work()
-- An execution that has not ended owns a queued job, a lease, or an evaluation to come.
SELECT e.id, 'has not ended and owns no job, no lease and no pending evaluation' FROM execution e
WHERE e.status IN ('pending', 'running') AND e.needs_evaluation_since IS NULL
  AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.execution_id = e.id AND q.status IN ('queued', 'leased'));

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
WHERE event_type IN ('action_completed', 'action_error')
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
-- A step or an item that has started and not ended is in the queue, or its outcome is still to be evaluated.
SELECT l.execution_id, format('%%s has started and has no job', l.node_id)
FROM event_log l
JOIN execution e ON e.id = l.execution_id AND e.status = 'running' AND e.needs_evaluation_since IS NULL
WHERE l.event_type IN ('step_started', 'loop_iteration')
  AND NOT EXISTS (SELECT 1 FROM event_log o WHERE o.execution_id = l.execution_id AND o.node_id = l.node_id
                  AND o.event_type IN ('step_completed', 'step_failed', 'action_completed', 'action_error',
                                       'loop_start'))
  AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.execution_id = l.execution_id AND q.node_id = l.node_id
                  AND q.status IN ('queued', 'leased'));

-- name: cancelled_job_has_an_ended_execution()
SELECT q.execution_id, format('job %%s is cancelled and its execution is %%s', q.id, e.status)
FROM queue q JOIN execution e ON e.id = q.execution_id
WHERE q.status = 'cancelled' AND e.status NOT IN ('completed', 'failed', 'cancelled');

-- name: nothing_without_its_execution()
SELECT orphan.execution_id, format('has %%s and no execution', orphan.what)
FROM (SELECT DISTINCT execution_id, 'events' AS what FROM event_log
      UNION SELECT DISTINCT execution_id, 'jobs' FROM queue WHERE origin = 'engine') AS orphan
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
WHERE l.result IS DISTINCT FROM e.result OR l.error IS DISTINCT FROM e.error;

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

-- name: evaluation_is_not_stuck()
SELECT id, format('evaluation has failed %%s times: %%s', evaluation_failures, evaluation_error) FROM execution
WHERE evaluation_failures >= 3;

-- name: executions_to_fold()
SELECT id FROM execution WHERE state IS NOT NULL ORDER BY id;
