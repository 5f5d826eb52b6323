-- The queue's statements. Time is always noetl.clock_now(); every change by a holder is fenced by
-- (id, status = 'leased', attempts, lease_token). Tables are found through the search path.
-- Whoever changes several jobs locks them in the order of their ids first: two batches never wait for each other.

-- name: enqueue(execution_ids, node_ids, node_names, kinds, actions, contexts, uuids, item_indexes, timeouts, pools, priorities, max_attempts)
-- One job per (execution, node): an existing one is left as it is.
INSERT INTO queue (execution_id, node_id, node_name, kind, action, context, uuid, item_index,
                   timeout_seconds, pool, priority, max_attempts)
SELECT * FROM unnest(
    :execution_ids::bigint[], :node_ids::text[], :node_names::text[], :kinds::text[], :actions::jsonb[],
    :contexts::jsonb[], :uuids::uuid[], :item_indexes::int[], :timeouts::float8[], :pools::text[],
    :priorities::int[], :max_attempts::int[])
ON CONFLICT (execution_id, node_id) DO NOTHING
RETURNING id, pool;

-- name: lease(pools, count, worker_id, lease_seconds)
WITH ready AS (
    SELECT id FROM queue
    WHERE status = 'queued' AND pool = ANY(:pools::text[]) AND available_at <= clock_now()
    ORDER BY priority DESC, id
    LIMIT :count
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE queue q
    SET status = 'leased', attempts = q.attempts + 1, lease_token = gen_random_uuid(), worker_id = :worker_id,
        lease_until = clock_now() + make_interval(secs => :lease_seconds), last_heartbeat = clock_now(),
        updated_at = clock_now()
    FROM ready WHERE q.id = ready.id
    RETURNING q.*
), history AS (
    INSERT INTO lease_history (job_id, execution_id, node_id, attempt, worker_id, lease_token, leased_at)
    SELECT id, execution_id, node_id, attempts, worker_id, lease_token, last_heartbeat FROM leased
)
SELECT id, execution_id, node_id, node_name, kind, action::text, context::text, uuid::text, item_index,
       timeout_seconds, pool, priority, attempts, lease_token::text, last_heartbeat, lease_until
FROM leased ORDER BY priority DESC, id;

-- name: heartbeat(lease_seconds, job_ids, attempts, tokens)
-- A lease that has run out is not revived: whoever may reap it decides (rule R4).
WITH held AS (
    SELECT q.id
    FROM queue q
    JOIN unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[]) AS shown (id, attempt, token) ON q.id = shown.id
    WHERE q.status = 'leased' AND q.attempts = shown.attempt AND q.lease_token = shown.token
      AND q.lease_until > clock_now()
    ORDER BY q.id FOR NO KEY UPDATE OF q
)
UPDATE queue q
SET lease_until = clock_now() + make_interval(secs => :lease_seconds), last_heartbeat = clock_now(),
    updated_at = clock_now()
FROM held WHERE q.id = held.id
RETURNING q.id, q.lease_until, q.cancel_requested_at IS NOT NULL;

-- name: finish(job_ids, attempts, tokens, statuses, execution_id)
-- The caller holds the lock of the execution (rule R2). `status` is done or failed, row by row.
WITH held AS (
    SELECT q.id, shown.status
    FROM queue q
    JOIN unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[], :statuses::text[])
        AS shown (id, attempt, token, status) ON q.id = shown.id
    WHERE q.execution_id = :execution_id AND q.status = 'leased'
      AND q.attempts = shown.attempt AND q.lease_token = shown.token
    ORDER BY q.id FOR NO KEY UPDATE OF q
), finished AS (
    UPDATE queue q
    SET status = held.status, accepted_token = q.lease_token, lease_token = NULL, worker_id = NULL,
        lease_until = NULL, finished_at = clock_now(), updated_at = clock_now()
    FROM held WHERE q.id = held.id
    RETURNING q.id, q.node_id, q.node_name, q.item_index, q.attempts, q.status
), history AS (
    UPDATE lease_history h
    SET ended_at = clock_now(), ending = finished.status
    FROM finished WHERE h.job_id = finished.id AND h.attempt = finished.attempts
    RETURNING h.job_id, h.leased_at, h.worker_id
)
SELECT f.id, f.node_id, f.node_name, f.item_index, f.attempts, h.leased_at, coalesce(h.worker_id, '')
FROM finished f LEFT JOIN history h ON h.job_id = f.id;

-- name: accepted_before(job_ids, tokens)
-- Which of these leases have had their result accepted already.
SELECT q.id
FROM queue q
JOIN unnest(:job_ids::bigint[], :tokens::uuid[]) AS shown (id, token) ON q.id = shown.id
WHERE q.accepted_token = shown.token;

-- name: release(job_ids, attempts, tokens)
-- A graceful drain: the job goes back, and nothing is counted against it.
WITH held AS (
    SELECT q.id
    FROM queue q
    JOIN unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[]) AS shown (id, attempt, token) ON q.id = shown.id
    WHERE q.status = 'leased' AND q.attempts = shown.attempt AND q.lease_token = shown.token
    ORDER BY q.id FOR NO KEY UPDATE OF q
), released AS (
    UPDATE queue q
    SET status = CASE WHEN q.cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        lease_token = NULL, worker_id = NULL, lease_until = NULL, updated_at = clock_now(),
        finished_at = CASE WHEN q.cancel_requested_at IS NULL THEN NULL ELSE clock_now() END
    FROM held WHERE q.id = held.id
    RETURNING q.id, q.attempts, q.status
)
UPDATE lease_history h
SET ended_at = clock_now(), ending = CASE released.status WHEN 'queued' THEN 'released' ELSE 'cancelled' END
FROM released WHERE h.job_id = released.id AND h.attempt = released.attempts
RETURNING h.job_id;

-- name: expired(count)
-- Candidates only, without a lock: each is judged again by `reap`, under its execution's lock.
SELECT id, execution_id, attempts FROM queue
WHERE status = 'leased' AND lease_until < clock_now()
ORDER BY lease_until LIMIT :count;

-- name: reap(job_id, attempt)
-- The caller holds the lock of the execution. The lease is checked again here.
WITH lost AS (
    UPDATE queue q
    SET status = CASE WHEN q.cancel_requested_at IS NOT NULL THEN 'cancelled'
                      WHEN q.lost_leases + 1 >= q.max_attempts THEN 'dead'
                      ELSE 'queued' END,
        lost_leases = q.lost_leases + 1, lease_token = NULL, worker_id = NULL, lease_until = NULL,
        updated_at = clock_now(),
        finished_at = CASE WHEN q.cancel_requested_at IS NOT NULL OR q.lost_leases + 1 >= q.max_attempts
                           THEN clock_now() END
    WHERE q.id = :job_id AND q.status = 'leased' AND q.attempts = :attempt AND q.lease_until < clock_now()
    RETURNING q.id, q.status, q.node_id, q.node_name, q.item_index, q.attempts, q.lost_leases
), history AS (
    UPDATE lease_history h SET ended_at = clock_now(), ending = 'lost'
    FROM lost WHERE h.job_id = lost.id AND h.attempt = lost.attempts
    RETURNING h.worker_id
)
SELECT lost.*, coalesce(history.worker_id, '') FROM lost LEFT JOIN history ON true;

-- name: close_open(execution_id)
-- The execution is over: what waits is cancelled, what runs is asked to stop and keeps its lease until it reports.
WITH open AS (
    SELECT id FROM queue WHERE execution_id = :execution_id AND status IN ('queued', 'leased')
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE queue q
SET status = CASE q.status WHEN 'queued' THEN 'cancelled' ELSE q.status END,
    finished_at = CASE q.status WHEN 'queued' THEN clock_now() END,
    cancel_requested_at = clock_now(), updated_at = clock_now()
FROM open WHERE q.id = open.id
RETURNING q.id;

-- name: waiting_pools(seconds)
-- Pools with jobs that could have been leased for longer than so many seconds.
SELECT pool, count(*) FROM queue
WHERE status = 'queued' AND available_at <= clock_now() - make_interval(secs => :seconds)
GROUP BY pool;

-- name: queue_size(status, pool)
SELECT count(*) FROM queue WHERE status = :status AND (:pool::text IS NULL OR pool = :pool);
