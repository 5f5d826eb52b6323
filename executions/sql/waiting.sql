-- What an execution waits for beside jobs: frames of items, timers, child executions. All under its lock.

-- name: frames_at(execution_id, keys)
SELECT key, data::text FROM frame WHERE execution_id = :execution_id AND key = ANY(:keys::text[]);

-- name: all_frames(execution_id)
SELECT key, data::text FROM frame WHERE execution_id = :execution_id ORDER BY key;

-- name: write_frames(execution_id, keys, datas)!
INSERT INTO frame (execution_id, key, data)
SELECT :execution_id, key, data FROM unnest(:keys::text[], :datas::jsonb[]) AS changed (key, data)
ON CONFLICT (execution_id, key) DO UPDATE SET data = excluded.data;

-- name: drop_frames(execution_id, keys)!
-- Those at these keys and all below them.
-- Keys compare byte by byte (COLLATE "C"), and / comes after the full stop.
DELETE FROM frame f USING unnest(:keys::text[]) AS dropped (key)
WHERE f.execution_id = :execution_id
  AND (f.key = dropped.key OR (f.key > dropped.key || '.' AND f.key < dropped.key || '/'));

-- name: drop_all_frames(execution_id)!
DELETE FROM frame WHERE execution_id = :execution_id;

-- name: set_timers(execution_id, node_ids, kinds, seconds, untils)!
INSERT INTO timer (execution_id, node_id, kind, due_at)
SELECT :execution_id, node_id, kind,
       coalesce(until, clock_now() + make_interval(secs => least(seconds, 3155760000)))
FROM unnest(:node_ids::text[], :kinds::text[], :seconds::float8[], :untils::timestamptz[])
    AS timer (node_id, kind, seconds, until)
ON CONFLICT (execution_id, node_id, kind) DO NOTHING;

-- name: timers_of(execution_id)
SELECT node_id, kind FROM timer WHERE execution_id = :execution_id;

-- name: due_executions(count)
-- Executions with a timer whose time has come, without a lock: `take_due_timers` judges again.
SELECT execution_id FROM timer WHERE due_at <= clock_now()
GROUP BY execution_id ORDER BY min(due_at) LIMIT :count;

-- name: take_due_timers(execution_id)
WITH due AS (
    DELETE FROM timer WHERE execution_id = :execution_id AND due_at <= clock_now() RETURNING node_id, kind, due_at
)
SELECT node_id, kind, due_at FROM due ORDER BY due_at, node_id, kind;

-- name: drop_timers(execution_id, nodes)!
DELETE FROM timer t USING unnest(:nodes::text[]) AS node
WHERE t.execution_id = :execution_id
  AND (t.node_id = node OR starts_with(t.node_id, node || ':') OR starts_with(t.node_id, node || '#'));

-- name: drop_all_timers(execution_id)!
DELETE FROM timer WHERE execution_id = :execution_id;

-- name: insert_children(ids, version_ids, paths, versions, workloads, metas, node_ids, priorities, parent_execution_id, depth, created_by)
-- Not evaluated here: whoever holds the parent must not wait for its children.
INSERT INTO execution (id, playbook_version_id, path, version, workload, meta, parent_execution_id, parent_node_id,
                       parent_waits, depth, created_by, priority, last_seq, needs_evaluation_since)
SELECT id, version_id, path, version, workload, meta, :parent_execution_id, node_id, true, :depth, :created_by,
       priority, 1, clock_now()
FROM unnest(:ids::bigint[], :version_ids::bigint[], :paths::text[], :versions::text[], :workloads::jsonb[],
            :metas::jsonb[], :node_ids::text[], :priorities::int[])
     AS child (id, version_id, path, version, workload, meta, node_id, priority)
ON CONFLICT (parent_execution_id, parent_node_id) DO NOTHING
RETURNING id;

-- name: close_children(execution_id, nodes, reason)
-- Nothing waits for these children any more: those that run are asked to cancel. Locks parent, then child: never the
-- other way round.
UPDATE execution
SET parent_waits = false,
    cancel_reason = CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN NULL ELSE :reason END,
    needs_evaluation_since = CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN needs_evaluation_since
                                  ELSE coalesce(needs_evaluation_since, clock_now()) END,
    updated_at = clock_now()
WHERE id IN (
    SELECT c.id FROM execution c
    WHERE c.parent_execution_id = :execution_id AND c.parent_waits
      AND (:nodes::text[] IS NULL OR EXISTS (
           SELECT 1 FROM unnest(:nodes::text[]) AS node
           WHERE c.parent_node_id = node OR starts_with(c.parent_node_id, node || ':')
              OR starts_with(c.parent_node_id, node || '#')))
    ORDER BY c.id FOR NO KEY UPDATE)
RETURNING id, cancel_reason IS NOT NULL;

-- name: forget_cancel_request(execution_id)!
UPDATE execution SET cancel_reason = NULL WHERE id = :execution_id;

-- name: ended_children(execution_id, count)
SELECT id, parent_node_id FROM execution
WHERE parent_execution_id = :execution_id AND parent_waits AND status IN ('completed', 'failed', 'cancelled')
ORDER BY id LIMIT :count;

-- name: mark_told(ids)!
UPDATE execution SET parent_waits = false WHERE id = ANY(:ids::bigint[]);

-- name: parents_to_tell(older_than_seconds, count)
SELECT parent_execution_id FROM execution
WHERE parent_waits AND status IN ('completed', 'failed', 'cancelled')
  AND updated_at < clock_now() - make_interval(secs => :older_than_seconds)
GROUP BY parent_execution_id ORDER BY min(updated_at) LIMIT :count;

-- name: child_requests(execution_id, node_ids)
-- What the children at these nodes were asked for.
SELECT parent_node_id, (meta -> 'request')::text FROM execution
WHERE parent_execution_id = :execution_id AND parent_node_id = ANY(:node_ids::text[]);
