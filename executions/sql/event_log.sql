-- The event log (rules R6, R7): partitioned by execution, unique where two would be a lie, append-only.
CREATE TABLE event_log (
    event_id bigint NOT NULL DEFAULT next_id(),
    execution_id bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    format smallint NOT NULL DEFAULT 1,
    parent_event_id bigint,
    parent_execution_id bigint,
    "timestamp" timestamptz NOT NULL DEFAULT clock_now(),
    event_type text NOT NULL,
    node_id text NOT NULL,
    node_name text NOT NULL,
    node_type text NOT NULL,
    status text NOT NULL DEFAULT '',
    duration double precision NOT NULL DEFAULT 0,
    context jsonb,
    result jsonb,
    meta jsonb,
    error jsonb,
    stack_trace text,
    loop_name text,
    current_index integer,
    current_item jsonb,
    worker_id text,
    PRIMARY KEY (execution_id, seq)
) PARTITION BY RANGE (execution_id);

CREATE INDEX event_log_event_id ON event_log (event_id);
CREATE UNIQUE INDEX event_log_one_outcome ON event_log (execution_id, node_id)
    WHERE event_type IN ('action_completed', 'action_error');
CREATE UNIQUE INDEX event_log_one_step_end ON event_log (execution_id, node_id)
    WHERE event_type IN ('step_completed', 'step_failed', 'step_skip');
CREATE UNIQUE INDEX event_log_one_step_start ON event_log (execution_id, node_id)
    WHERE event_type IN ('step_started', 'step_skip');
CREATE UNIQUE INDEX event_log_one_terminal ON event_log (execution_id)
    WHERE event_type IN ('execution_completed', 'execution_failed', 'execution_cancelled');
CREATE UNIQUE INDEX event_log_one_loop_start ON event_log (execution_id, node_id) WHERE event_type = 'loop_start';
CREATE INDEX event_log_items ON event_log (execution_id, loop_name, current_index)
    WHERE event_type IN ('action_completed', 'action_error') AND loop_name IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER event_log_is_append_only BEFORE UPDATE OR DELETE ON event_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_log_is_never_emptied BEFORE TRUNCATE ON event_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Partitions are made by the owner, on behalf of the application: a month each, the ones to come ahead of time.
CREATE FUNCTION ensure_event_partitions(months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = noetl, pg_temp AS $$
DECLARE
    month timestamptz;
    name text;
    reader oid;
    made integer := 0;
BEGIN
    FOR month IN SELECT generate_series(
        date_trunc('month', now(), 'UTC'), date_trunc('month', now(), 'UTC') + make_interval(months => months_ahead),
        interval '1 month', 'UTC')
    LOOP
        name := 'event_log_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE IF NOT EXISTS %I PARTITION OF event_log FOR VALUES FROM (%s) TO (%s)', name,
                id_at(month), id_at(date_add(month, interval '1 month', 'UTC')));
            -- A partition is granted by default what its parent is not.
            FOR reader IN SELECT DISTINCT acl.grantee FROM pg_class c, aclexplode(c.relacl) acl
                          WHERE c.oid = to_regclass(name) AND acl.grantee <> c.relowner
            LOOP
                EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I FROM %s', name, reader::regrole);
            END LOOP;
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;
CREATE TABLE event_log_other PARTITION OF event_log DEFAULT;
SELECT ensure_event_partitions(12);
