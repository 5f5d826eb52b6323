-- What old executions leave, a month at a time, as the event log is partitioned. Run by the owner of the tables.

-- name: months(keep_days)
-- The partitions whose month was over so many days ago, by the database's clock, the oldest first.
SELECT c.relname::text, id_at(m.month), id_at(date_add(m.month, interval '1 month', 'UTC'))
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid AND c.relname ~ '^event_log_\d{4}_\d{2}$'
CROSS JOIN LATERAL (
    SELECT to_timestamp(right(c.relname::text, 7) || '-01 00:00+00', 'YYYY_MM-DD HH24:MITZH:TZM') AS month) m
WHERE i.inhparent = 'event_log'::regclass
  AND date_add(m.month, interval '1 month', 'UTC') <= clock_now() - make_interval(days => :keep_days)
ORDER BY c.relname;

-- name: count_executions(first_id, end_id)^
-- How many began in the month, and how many of them something still depends on: they, a child, or a rerun (of a rerun),
-- which reads their events, have not ended.
WITH RECURSIVE origin AS (
    SELECT rerun_of AS id FROM execution
    WHERE rerun_of IS NOT NULL AND status NOT IN ('completed', 'failed', 'cancelled')
    UNION
    SELECT e.rerun_of FROM execution e JOIN origin o ON o.id = e.id WHERE e.rerun_of IS NOT NULL)
SELECT count(*), count(*) FILTER (
    WHERE e.status NOT IN ('completed', 'failed', 'cancelled') OR e.parent_waits
       OR e.id IN (SELECT id FROM origin)
       OR EXISTS (SELECT FROM execution c WHERE c.parent_execution_id = e.id
                  AND (c.parent_waits OR c.status NOT IN ('completed', 'failed', 'cancelled'))))
FROM execution e WHERE e.id >= :first_id AND e.id < :end_id;

-- name: has_reruns(first_id, end_id)$
-- Whether a rerun (of a rerun) that has not ended refers to one of the month, be that there or not.
WITH RECURSIVE origin AS (
    SELECT rerun_of AS id FROM execution
    WHERE rerun_of IS NOT NULL AND status NOT IN ('completed', 'failed', 'cancelled')
    UNION
    SELECT e.rerun_of FROM execution e JOIN origin o ON o.id = e.id WHERE e.rerun_of IS NOT NULL)
SELECT EXISTS (SELECT FROM origin WHERE id >= :first_id AND id < :end_id);

-- name: choose_executions(first_id, end_id, most)
SELECT id FROM execution WHERE id >= :first_id AND id < :end_id ORDER BY id LIMIT :most;

-- name: delete_belongings(ids)!
-- What nothing else points to.
WITH lines AS (DELETE FROM action_log WHERE execution_id = ANY(:ids)),
timers AS (DELETE FROM timer WHERE execution_id = ANY(:ids)),
frames AS (DELETE FROM frame WHERE execution_id = ANY(:ids))
DELETE FROM action_log_total WHERE execution_id = ANY(:ids);

-- name: delete_executions(first_id, end_id)!
-- And what their events tell of.
WITH jobs AS (DELETE FROM queue WHERE execution_id >= :first_id AND execution_id < :end_id),
leases AS (DELETE FROM lease_history WHERE execution_id >= :first_id AND execution_id < :end_id),
results AS (DELETE FROM large_result WHERE execution_id >= :first_id AND execution_id < :end_id)
DELETE FROM execution WHERE id >= :first_id AND id < :end_id;
