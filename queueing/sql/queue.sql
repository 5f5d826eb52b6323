-- The queue's statements. Time is always noetl.clock_now(); every change by a holder is fenced by
-- (id, status = 'leased', attempts, lease_token). Tables are found through the search path.
-- Whoever changes several jobs locks them in the order of their ids first: two batches never wait for each other.
-- Jobs that are named by their ids are found one by one (LATERAL), never through an index on their status: that one is
-- full of dead entries between two vacuums.

-- name: enqueue(execution_id, node_ids, node_names, kinds, actions, contexts, uuids, item_indexes, timeouts, pools, priorities, max_attempts, origins, availables, held, further, waited_for, first_keys, first_maxs, second_keys, second_maxs, parked, line_pools, line_priorities)
-- One job per node of the execution: an existing one is left as it is.
-- Fair order: an execution's jobs get one round each, from the round on that is being served in their pool and priority;
-- so whoever comes later is served after at most one job of each other execution. An execution that has had jobs begins
-- a round later, else a few chains that always have a job waiting would keep everybody else from the next round.
-- Where nothing waits the time in microseconds goes on where the rounds have stopped: no queue is served faster.
-- `further` counts the jobs before it in its line (pool and priority); `waited_for` is the first round of those that
-- wait for the same key: who is parked beside them stands beside them.
WITH line AS MATERIALIZED (
    SELECT pool, priority,
           coalesce((SELECT 1 FROM queue q WHERE q.execution_id = :execution_id ORDER BY q.node_id LIMIT 1), 0)
           + coalesce(
               (SELECT q.round FROM queue q
                WHERE q.pool = one.pool AND q.priority = one.priority AND q.status = 'queued' AND NOT q.held
                  AND q.parked_by IS NULL AND q.available_at <= clock_now()
                ORDER BY q.round, q.id LIMIT 1),
               (extract(epoch FROM clock_now()) * 1000000)::bigint) AS round
    FROM unnest(:line_pools::text[], :line_priorities::int[]) AS one (pool, priority)
)
INSERT INTO queue (execution_id, node_id, node_name, kind, action, context, uuid, item_index, timeout_seconds, pool,
                   priority, max_attempts, origin, available_at, held, round, limit_keys, limit_maxs, parked_by)
SELECT :execution_id, node_id, node_name, kind, action, context, uuid, item_index, timeout_seconds, pool, priority,
       max_attempts, origin, coalesce(available_at, clock_now()), held, least(round, waited_for) + further,
       CASE WHEN first_key IS NOT NULL THEN array_remove(ARRAY[first_key, second_key], NULL) END,
       CASE WHEN first_key IS NOT NULL THEN array_remove(ARRAY[first_max, second_max], NULL) END,
       parked
FROM unnest(
    :node_ids::text[], :node_names::text[], :kinds::text[], :actions::jsonb[], :contexts::jsonb[], :uuids::uuid[],
    :item_indexes::int[], :timeouts::float8[], :pools::text[], :priorities::int[], :max_attempts::int[],
    :origins::text[], :availables::timestamptz[], :held::boolean[], :further::int[], :waited_for::bigint[],
    :first_keys::text[], :first_maxs::int[], :second_keys::text[], :second_maxs::int[], :parked::text[])
    AS job (node_id, node_name, kind, action, context, uuid, item_index, timeout_seconds, pool, priority, max_attempts,
            origin, available_at, held, further, waited_for, first_key, first_max, second_key, second_max, parked)
JOIN line USING (pool, priority)
ON CONFLICT (execution_id, node_id) DO NOTHING
RETURNING id, pool;

-- name: waited_for(keys, pools, priorities)
-- For each of these: whether the key keeps jobs parked, and the first round of those in the pool and priority.
-- By an order that only the index has: where one key has parked nearly all jobs, EXISTS walks over them for any other.
SELECT (SELECT q.id FROM queue q WHERE q.parked_by = key AND q.status = 'queued' AND NOT q.held
        ORDER BY q.pool LIMIT 1) IS NOT NULL,
       (SELECT q.round FROM queue q
        WHERE q.parked_by = key AND q.pool = asked.pool AND q.priority = asked.priority AND q.status = 'queued'
          AND NOT q.held
        ORDER BY q.round, q.id LIMIT 1)
FROM unnest(:keys::text[], :pools::text[], :priorities::int[]) AS asked (key, pool, priority);

-- name: enqueue_leased(jobs, worker_id, lease_seconds)
-- `jobs`: a JSON list of rows. They never wait: the worker that has asked for them goes on with them. Their rounds are
-- those that they would have got, in case that one of them comes back.
WITH job AS (
    SELECT * FROM json_to_recordset(:jobs::json) AS job (
        execution_id bigint, node_id text, node_name text, kind text, action jsonb, context jsonb, uuid uuid,
        item_index int, timeout_seconds float8, pool text, priority int, max_attempts int, origin text, further int)
), line AS MATERIALIZED (
    SELECT pool, priority,
           1 + coalesce(
               (SELECT q.round FROM queue q
                WHERE q.pool = one.pool AND q.priority = one.priority AND q.status = 'queued' AND NOT q.held
                  AND q.parked_by IS NULL AND q.available_at <= clock_now()
                ORDER BY q.round, q.id LIMIT 1),
               (extract(epoch FROM clock_now()) * 1000000)::bigint) AS round
    FROM (SELECT DISTINCT pool, priority FROM job) AS one
), leased AS (
    INSERT INTO queue (execution_id, node_id, node_name, kind, action, context, uuid, item_index, timeout_seconds,
                       pool, priority, max_attempts, origin, round, status, attempts, lease_token, worker_id,
                       lease_until, last_heartbeat)
    SELECT execution_id, node_id, node_name, kind, action, context, uuid, item_index, timeout_seconds,
           pool, priority, max_attempts, origin, round + further, 'leased', 1, gen_random_uuid(), :worker_id,
           clock_now() + make_interval(secs => :lease_seconds), clock_now()
    FROM job JOIN line USING (pool, priority)
    ON CONFLICT (execution_id, node_id) DO NOTHING
    RETURNING *
), history AS (
    INSERT INTO lease_history (job_id, execution_id, node_id, attempt, worker_id, principal, lease_token, leased_at)
    SELECT id, execution_id, node_id, attempts, worker_id, '', lease_token, last_heartbeat FROM leased
)
SELECT id, execution_id, node_id, node_name, kind, action::text, context::text, uuid::text, item_index,
       timeout_seconds, pool, priority, attempts, lease_token::text, last_heartbeat, lease_until
FROM leased ORDER BY round, id;

-- name: lease(pools, execution_id, count, worker_id, lease_seconds, principal)
-- Jobs of these pools; with an execution, of that execution in these pools. One of the two scans below has nothing to
-- do: a null execution owns no job, and no pool is asked when there is an execution.
-- A job with limits is locked and told without a lease (its execution is null): whether its keys have room is judged
-- under their locks, which these statements do not need for anything else.
WITH of_pools AS (
    SELECT job.* FROM unnest(CASE WHEN :execution_id::bigint IS NULL THEN :pools::text[] END) AS served (pool)
    CROSS JOIN LATERAL (
        SELECT id, priority, round, limit_keys, limit_maxs FROM queue
        WHERE pool = served.pool AND status = 'queued' AND NOT held AND parked_by IS NULL
          AND available_at <= clock_now()
        ORDER BY priority DESC, round, id LIMIT :count
        FOR UPDATE SKIP LOCKED
    ) AS job
), of_execution AS (
    SELECT id, priority, round, limit_keys, limit_maxs FROM queue
    WHERE execution_id = :execution_id::bigint AND status = 'queued' AND NOT held AND parked_by IS NULL
      AND available_at <= clock_now() AND pool = ANY(:pools::text[])
    ORDER BY priority DESC, round, id LIMIT :count
    FOR UPDATE SKIP LOCKED
), ready AS (
    SELECT * FROM (SELECT * FROM of_pools UNION ALL SELECT * FROM of_execution) AS job
    ORDER BY priority DESC, round, id LIMIT :count
), leased AS (
    UPDATE queue q
    SET status = 'leased', attempts = q.attempts + 1, lease_token = gen_random_uuid(), worker_id = :worker_id,
        lease_until = clock_now() + make_interval(secs => :lease_seconds), last_heartbeat = clock_now(),
        updated_at = clock_now()
    FROM ready WHERE q.id = ready.id AND ready.limit_keys IS NULL
    RETURNING q.*
), history AS (
    INSERT INTO lease_history (job_id, execution_id, node_id, attempt, worker_id, principal, lease_token, leased_at)
    SELECT id, execution_id, node_id, attempts, worker_id, :principal, lease_token, last_heartbeat FROM leased
)
SELECT ready.id, q.execution_id, q.node_id, q.node_name, q.kind, q.action::text, q.context::text, q.uuid::text,
       q.item_index, q.timeout_seconds, q.pool, q.priority, q.attempts, q.lease_token::text, q.last_heartbeat,
       q.lease_until, array_to_json(ready.limit_keys)::text, array_to_json(ready.limit_maxs)::text
FROM ready LEFT JOIN leased q ON q.id = ready.id
ORDER BY ready.priority DESC, ready.round, ready.id;

-- name: lease_these(job_ids, worker_id, lease_seconds, principal)
-- Jobs that this transaction has locked by `lease`, under the locks of all their keys, which have room for them.
WITH leased AS (
    UPDATE queue q
    SET status = 'leased', attempts = q.attempts + 1, lease_token = gen_random_uuid(), worker_id = :worker_id,
        lease_until = clock_now() + make_interval(secs => :lease_seconds), last_heartbeat = clock_now(),
        updated_at = clock_now()
    WHERE q.id = ANY(:job_ids::bigint[]) AND q.status = 'queued'
    RETURNING q.*
), history AS (
    INSERT INTO lease_history (job_id, execution_id, node_id, attempt, worker_id, principal, lease_token, leased_at)
    SELECT id, execution_id, node_id, attempts, worker_id, :principal, lease_token, last_heartbeat FROM leased
)
SELECT id, execution_id, node_id, node_name, kind, action::text, context::text, uuid::text, item_index,
       timeout_seconds, pool, priority, attempts, lease_token::text, last_heartbeat, lease_until
FROM leased ORDER BY priority DESC, round, id;

-- name: lock_keys(keys)
-- Until the end of the transaction, in one order for everybody: of the locks themselves, as two keys may share one.
SELECT count(pg_advisory_xact_lock(20078, lock))
FROM (SELECT DISTINCT hashtext(key) AS lock FROM unnest(:keys::text[]) AS key ORDER BY lock) AS wanted;

-- name: try_lock_keys(keys)
-- Those that nobody else holds, for a transaction that has locks already and so must not wait.
SELECT key FROM unnest(:keys::text[]) AS key WHERE pg_try_advisory_xact_lock(20078, hashtext(key));

-- name: live_leases(keys)
-- Under the locks of the keys; a statement of its own, so that it sees what was committed before they were given.
SELECT key,
       (SELECT count(*) FROM queue q WHERE q.limit_keys[1] = key AND q.limit_keys IS NOT NULL AND q.status = 'leased'
           AND q.parked_by IS NULL)
       + (SELECT count(*) FROM queue q WHERE q.limit_keys[2] = key AND q.limit_keys IS NOT NULL AND q.status = 'leased'
           AND q.parked_by IS NULL)
FROM unnest(:keys::text[]) AS key;

-- name: park(job_ids, keys, count)
-- Under the locks of all their keys, of which the named are full: these jobs, and others with the same keys, which would
-- be found next.
WITH told AS (
    SELECT * FROM unnest(:job_ids::bigint[], :keys::text[]) AS told (id, key)
), more AS (
    SELECT job.id, wanted.key
    FROM (SELECT DISTINCT ON (q.limit_keys) told.key, q.limit_keys FROM told JOIN queue q ON q.id = told.id) AS wanted
    CROSS JOIN LATERAL (
        SELECT q.id FROM queue q
        WHERE q.limit_keys[1] = wanted.limit_keys[1] AND q.limit_keys = wanted.limit_keys
          AND q.limit_keys IS NOT NULL AND q.status = 'queued' AND NOT q.held AND q.parked_by IS NULL
          AND q.available_at <= clock_now()
        LIMIT :count FOR UPDATE SKIP LOCKED
    ) AS job
)
UPDATE queue q SET parked_by = found.key, updated_at = clock_now()
FROM (SELECT id, key FROM told UNION ALL SELECT id, key FROM more WHERE id NOT IN (SELECT id FROM told)) AS found
WHERE q.id = found.id AND q.status = 'queued'
RETURNING q.id;

-- name: admit(keys)
-- Under the locks of the keys: of what they keep parked, as many jobs as they have room for, pool by pool (a job that
-- is ready where nobody works must keep nobody else waiting). The lease judges again: too many here is no harm.
WITH RECURSIVE waiting AS (
    SELECT key, (SELECT min(q.pool) FROM queue q WHERE q.parked_by = key AND q.status = 'queued' AND NOT q.held) AS pool
    FROM (SELECT DISTINCT key FROM unnest(:keys::text[]) AS key) AS wanted
    UNION ALL
    SELECT key, (SELECT min(q.pool) FROM queue q WHERE q.parked_by = key AND q.pool > waiting.pool
                   AND q.status = 'queued' AND NOT q.held)
    FROM waiting WHERE waiting.pool IS NOT NULL
), counted AS (
    -- What is leased, and what is ready in this pool.
    SELECT waiting.key, waiting.pool, first.places + second.places AS taken
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT count(*) AS places FROM queue q
        WHERE q.limit_keys[1] = waiting.key AND q.limit_keys IS NOT NULL AND q.parked_by IS NULL
          AND (q.status = 'leased' OR (q.status = 'queued' AND NOT q.held AND q.pool = waiting.pool
                                       AND q.available_at <= clock_now()))
          AND q.status IN ('queued', 'leased')
    ) AS first
    CROSS JOIN LATERAL (
        SELECT count(*) AS places FROM queue q
        WHERE q.limit_keys[2] = waiting.key AND q.limit_keys IS NOT NULL AND q.parked_by IS NULL
          AND (q.status = 'leased' OR (q.status = 'queued' AND NOT q.held AND q.pool = waiting.pool
                                       AND q.available_at <= clock_now()))
          AND q.status IN ('queued', 'leased')
    ) AS second
    WHERE waiting.pool IS NOT NULL
), room AS (
    SELECT counted.*, greatest(0, next.most - taken) AS places
    FROM counted
    CROSS JOIN LATERAL (
        SELECT q.limit_maxs[array_position(q.limit_keys, counted.key)] AS most FROM queue q
        WHERE q.parked_by = counted.key AND q.pool = counted.pool AND q.status = 'queued' AND NOT q.held
        ORDER BY q.priority DESC, q.round, q.id LIMIT 1
    ) AS next
), chosen AS (
    SELECT job.* FROM room
    CROSS JOIN LATERAL (
        SELECT q.id, q.pool, q.priority, q.round FROM queue q
        WHERE q.parked_by = room.key AND q.pool = room.pool AND q.status = 'queued' AND NOT q.held
        ORDER BY q.priority DESC, q.round, q.id LIMIT room.places
        FOR UPDATE SKIP LOCKED
    ) AS job
)
-- It has waited long enough to be first, and must not draw newcomers to a round that is long over.
UPDATE queue q
SET parked_by = NULL, updated_at = clock_now(), round = greatest(q.round, coalesce(
        (SELECT s.round FROM queue s
         WHERE s.pool = chosen.pool AND s.priority = chosen.priority AND s.status = 'queued' AND NOT s.held
           AND s.parked_by IS NULL AND s.available_at <= clock_now()
         ORDER BY s.round, s.id LIMIT 1), q.round))
FROM chosen WHERE q.id = chosen.id
RETURNING q.pool;

-- name: parking_keys(after, count)
-- Keys that keep jobs parked, from one on: as many look-ups as keys, however many jobs.
WITH RECURSIVE parking AS (
    SELECT min(parked_by) AS key FROM queue WHERE parked_by > :after AND status = 'queued' AND NOT held
    UNION ALL
    SELECT (SELECT min(q.parked_by) FROM queue q WHERE q.parked_by > parking.key AND q.status = 'queued' AND NOT q.held)
    FROM parking WHERE parking.key IS NOT NULL
)
SELECT key FROM parking WHERE key IS NOT NULL LIMIT :count;

-- name: heartbeat(lease_seconds, job_ids, attempts, tokens)
-- A lease that has run out is not revived: whoever may reap it decides (rule R4).
WITH held AS (
    SELECT q.id
    FROM (SELECT * FROM unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[]) AS given (id, attempt, token)
          ORDER BY id) AS shown
    CROSS JOIN LATERAL (SELECT * FROM queue WHERE id = shown.id FOR NO KEY UPDATE) AS q
    WHERE q.status = 'leased' AND q.attempts = shown.attempt AND q.lease_token = shown.token
      AND q.lease_until > clock_now()
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
    FROM (SELECT * FROM unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[], :statuses::text[])
              AS given (id, attempt, token, status) ORDER BY id) AS shown
    CROSS JOIN LATERAL (SELECT * FROM queue WHERE id = shown.id FOR NO KEY UPDATE) AS q
    WHERE q.execution_id = :execution_id AND q.status = 'leased'
      AND q.attempts = shown.attempt AND q.lease_token = shown.token
), finished AS (
    UPDATE queue q
    SET status = held.status, accepted_token = q.lease_token, lease_token = NULL, worker_id = NULL,
        lease_until = NULL, finished_at = clock_now(), updated_at = clock_now()
    FROM held WHERE q.id = held.id
    RETURNING q.id, q.node_id, q.node_name, q.item_index, q.attempts, q.status, q.origin,
              q.cancel_requested_at IS NOT NULL AS called_off, q.tries, q.kind, q.limit_keys
), history AS (
    UPDATE lease_history h
    SET ended_at = clock_now(), ending = finished.status
    FROM finished WHERE h.job_id = finished.id AND h.attempt = finished.attempts
    RETURNING h.job_id, h.leased_at, h.worker_id
)
SELECT f.id, f.node_id, f.node_name, f.item_index, f.attempts, h.leased_at, coalesce(h.worker_id, ''), f.origin,
       f.called_off, f.tries, f.kind, array_to_json(f.limit_keys)::text
FROM finished f LEFT JOIN history h ON h.job_id = f.id;

-- name: accepted_before(job_ids, tokens)
-- Which of these leases have had their result accepted already, as the job's last or as a try that was repeated.
SELECT q.id
FROM queue q
JOIN unnest(:job_ids::bigint[], :tokens::uuid[]) AS shown (id, token) ON q.id = shown.id
WHERE q.accepted_token = shown.token
UNION
SELECT h.job_id
FROM lease_history h
JOIN unnest(:job_ids::bigint[], :tokens::uuid[]) AS shown (id, token)
    ON h.job_id = shown.id AND h.lease_token = shown.token
WHERE h.ending = 'retried';

-- name: retry(job_id, delay_seconds)
-- The job has just failed in this transaction, and its step has another try. The caller holds the execution's lock.
WITH retried AS (
    UPDATE queue q
    SET status = 'queued', tries = q.tries + 1, accepted_token = NULL, finished_at = NULL,
        available_at = clock_now() + make_interval(secs => least(:delay_seconds::float8, 3155760000)),
        updated_at = clock_now()
    WHERE q.id = :job_id AND q.status = 'failed' AND q.origin = 'engine' AND q.cancel_requested_at IS NULL
    RETURNING q.id, q.attempts, q.pool
), history AS (
    UPDATE lease_history h SET ending = 'retried'
    FROM retried WHERE h.job_id = retried.id AND h.attempt = retried.attempts
)
SELECT pool FROM retried;

-- name: release(job_ids, attempts, tokens, delay_seconds)
-- A graceful drain, or with a delay: the job goes back, and nothing is counted against it.
WITH held AS (
    SELECT q.id
    FROM (SELECT * FROM unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[]) AS given (id, attempt, token)
          ORDER BY id) AS shown
    CROSS JOIN LATERAL (SELECT * FROM queue WHERE id = shown.id FOR NO KEY UPDATE) AS q
    WHERE q.status = 'leased' AND q.attempts = shown.attempt AND q.lease_token = shown.token
), released AS (
    UPDATE queue q
    SET status = CASE WHEN q.cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        available_at = CASE WHEN :delay_seconds::float8 > 0 THEN clock_now() + make_interval(secs => :delay_seconds)
                            ELSE q.available_at END,
        lease_token = NULL, worker_id = NULL, lease_until = NULL, updated_at = clock_now(),
        finished_at = CASE WHEN q.cancel_requested_at IS NULL THEN NULL ELSE clock_now() END
    FROM held WHERE q.id = held.id
    RETURNING q.id, q.attempts, q.status, q.limit_keys
)
UPDATE lease_history h
SET ended_at = clock_now(), ending = CASE released.status WHEN 'queued' THEN 'released' ELSE 'cancelled' END
FROM released WHERE h.job_id = released.id AND h.attempt = released.attempts
RETURNING h.job_id, array_to_json(released.limit_keys)::text;

-- name: retry_later(job_id, attempt, token, delay_seconds)
-- A job enqueued by hand that failed and may be tried again: fenced, and ended as given back.
WITH retried AS (
    UPDATE queue q
    SET status = CASE WHEN q.cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        tries = q.tries + 1, available_at = clock_now() + make_interval(secs => :delay_seconds),
        lease_token = NULL, worker_id = NULL, lease_until = NULL, updated_at = clock_now(),
        finished_at = CASE WHEN q.cancel_requested_at IS NULL THEN NULL ELSE clock_now() END
    WHERE q.id = :job_id AND q.status = 'leased' AND q.attempts = :attempt AND q.lease_token = :token::uuid
      AND q.origin = 'external' AND q.attempts < q.max_attempts
    RETURNING q.id, q.attempts, q.status, q.limit_keys
)
UPDATE lease_history h
SET ended_at = clock_now(), ending = CASE retried.status WHEN 'queued' THEN 'released' ELSE 'cancelled' END
FROM retried WHERE h.job_id = retried.id AND h.attempt = retried.attempts
RETURNING h.job_id, array_to_json(retried.limit_keys)::text;

-- name: leases_of(job_id, principal)
-- The leases of a job that a principal has or had.
SELECT attempt, lease_token::text, worker_id, principal FROM lease_history
WHERE job_id = :job_id AND principal = :principal ORDER BY attempt;

-- name: held_by(execution_id, principal, count)
-- The leased jobs of an execution that a principal of the API holds.
SELECT q.id, q.execution_id, q.node_id, q.node_name, q.kind, q.action::text, q.context::text, q.uuid::text,
       q.item_index, q.timeout_seconds, q.pool, q.priority, q.attempts, q.lease_token::text, h.leased_at, q.lease_until
FROM queue q JOIN lease_history h ON h.job_id = q.id AND h.attempt = q.attempts
WHERE q.execution_id = :execution_id AND q.status = 'leased' AND h.principal = :principal
ORDER BY q.id LIMIT :count;

-- name: held_job(job_id, attempt, token)
-- Where a job stands whose lease is held; it may have run out, as long as nobody has taken it back.
SELECT execution_id, node_id, node_name, item_index FROM queue
WHERE id = :job_id AND status = 'leased' AND attempts = :attempt AND lease_token = :token::uuid;

-- name: live_lease(job_id, attempt, token)
-- The action of a job whose lease is held now and has not run out.
SELECT action::text FROM queue
WHERE id = :job_id AND status = 'leased' AND attempts = :attempt AND lease_token = :token::uuid
  AND lease_until > clock_now();

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
    RETURNING q.id, q.status, q.node_id, q.node_name, q.item_index, q.attempts, q.lost_leases, q.origin, q.limit_keys
), history AS (
    UPDATE lease_history h SET ended_at = clock_now(), ending = 'lost'
    FROM lost WHERE h.job_id = lost.id AND h.attempt = lost.attempts
    RETURNING h.worker_id
)
SELECT lost.id, lost.status, lost.node_id, lost.node_name, lost.item_index, lost.attempts, lost.lost_leases, lost.origin,
       coalesce(history.worker_id, ''), array_to_json(lost.limit_keys)::text
FROM lost LEFT JOIN history ON true;

-- name: end_leases_without_jobs(execution_id)!
-- Leases whose job is gone, as no job ever goes by itself. The caller holds the lock of the execution.
UPDATE lease_history h SET ended_at = clock_now(), ending = 'lost'
WHERE h.execution_id = :execution_id AND h.ending IS NULL
  AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.id = h.job_id);

-- name: find_job(job_id)
-- Without a lock: whose it is never changes, its status is judged again by what follows.
SELECT execution_id, origin FROM queue WHERE id = :job_id;

-- name: take_back(job_id)
-- An operator ends a lease: nothing is counted. The caller holds the lock of the execution.
WITH taken AS (
    UPDATE queue q
    SET status = CASE WHEN q.cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        lease_token = NULL, worker_id = NULL, lease_until = NULL, updated_at = clock_now(),
        finished_at = CASE WHEN q.cancel_requested_at IS NULL THEN NULL ELSE clock_now() END
    WHERE q.id = :job_id AND q.status = 'leased'
    RETURNING q.id, q.status, q.node_id, q.node_name, q.item_index, q.attempts, q.lost_leases, q.origin, q.limit_keys
), history AS (
    UPDATE lease_history h
    SET ended_at = clock_now(), ending = CASE taken.status WHEN 'queued' THEN 'released' ELSE 'cancelled' END
    FROM taken WHERE h.job_id = taken.id AND h.attempt = taken.attempts
    RETURNING h.worker_id
)
SELECT taken.id, taken.status, taken.node_id, taken.node_name, taken.item_index, taken.attempts, taken.lost_leases, taken.origin,
       coalesce(history.worker_id, ''), array_to_json(taken.limit_keys)::text
FROM taken LEFT JOIN history ON true;

-- name: requeue_dead(job_id, held)
-- The caller holds the lock of the execution, and knows whether it is paused: that may have changed since the job died.
UPDATE queue
SET status = 'queued', held = :held, lost_leases = 0, finished_at = NULL, updated_at = clock_now()
WHERE id = :job_id AND status = 'dead' AND origin = 'external'
RETURNING id;

-- name: close_open(execution_id)
-- The execution is over: what waits is cancelled, what runs is asked to stop and keeps its lease until it reports.
WITH open AS (
    SELECT id, status FROM queue WHERE execution_id = :execution_id AND status IN ('queued', 'leased')
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE queue q
SET status = CASE q.status WHEN 'queued' THEN 'cancelled' ELSE q.status END,
    finished_at = CASE q.status WHEN 'queued' THEN clock_now() END,
    cancel_requested_at = clock_now(), updated_at = clock_now()
FROM open WHERE q.id = open.id
RETURNING q.id, CASE WHEN open.status = 'queued' AND q.parked_by IS NULL THEN array_to_json(q.limit_keys)::text END;

-- name: close_nodes(execution_id, nodes)
-- The same for what is open at these nodes and below them, in any visit.
WITH open AS (
    SELECT q.id, q.status FROM queue q
    WHERE q.execution_id = :execution_id AND q.status IN ('queued', 'leased') AND q.origin = 'engine'
      AND EXISTS (SELECT 1 FROM unnest(:nodes::text[]) AS node
                  WHERE q.node_id = node OR starts_with(q.node_id, node || ':') OR starts_with(q.node_id, node || '#'))
    ORDER BY q.id FOR NO KEY UPDATE
)
UPDATE queue q
SET status = CASE q.status WHEN 'queued' THEN 'cancelled' ELSE q.status END,
    finished_at = CASE q.status WHEN 'queued' THEN clock_now() END,
    cancel_requested_at = clock_now(), updated_at = clock_now()
FROM open WHERE q.id = open.id
RETURNING q.id, CASE WHEN open.status = 'queued' AND q.parked_by IS NULL THEN array_to_json(q.limit_keys)::text END;

-- name: hold_open(execution_id, held)
-- The execution is paused, or goes on. What is leased is marked, too: it may be given back meanwhile.
WITH open AS (
    SELECT id FROM queue WHERE execution_id = :execution_id AND status IN ('queued', 'leased') AND held <> :held
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE queue q SET held = :held, updated_at = clock_now()
FROM open WHERE q.id = open.id
RETURNING q.pool, q.status = 'queued' AND q.parked_by IS NULL AND q.available_at <= clock_now(),
          array_to_json(q.limit_keys)::text;

-- name: waiting_pools(seconds)
-- Pools with jobs that could have been leased for longer than so many seconds. Nobody was told of a repeated try.
SELECT pool, count(*) FROM queue
WHERE status = 'queued' AND NOT held AND parked_by IS NULL
  AND available_at <= clock_now() - make_interval(secs => CASE WHEN tries > 0 THEN 0 ELSE :seconds::float8 END)
GROUP BY pool;

-- name: queue_size(status, pool)
SELECT count(*) FROM queue WHERE status = :status AND (:pool::text IS NULL OR pool = :pool);

-- name: waiting_up_to(bound)
-- How many jobs wait for a worker or for a key; each part counts no more than `bound`, by one partial index.
SELECT (SELECT count(*) FROM (SELECT 1 FROM queue WHERE status = 'queued' AND NOT held AND parked_by IS NULL
                              LIMIT :bound) AS ready)
       + (SELECT count(*) FROM (SELECT 1 FROM queue WHERE status = 'queued' AND NOT held AND parked_by IS NOT NULL
                                LIMIT :bound) AS parked);
