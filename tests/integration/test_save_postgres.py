"""The storage `postgres` on a real server: types, connections, repeated attempts, and what it asks of the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.api import validate_text
from executors.actions.save import SaveAction
from executors.contract import ActionFailed, Credential
from executors.local import LocalRun
from executors.stores.postgres_target import ForbiddenTarget
from tests.support.database_steps import PASSWORD, ROLE, step_socket
from tests.support.inspection import wait_for
from tests.support.kinds import kinds, settings_with
from tests.support.saves import LOOP, Saves, all_at_once, written


def clear(saves: Saves) -> None:
    with saves.postgres() as connection:
        connection.execute("DROP TABLE IF EXISTS t, u, counted, noetl_effects; DROP FUNCTION IF EXISTS count_statement")


@pytest.fixture
def saves(tmp_path: Path) -> Iterator[Saves]:
    saves = Saves("postgres", step_socket(), tmp_path)
    clear(saves)
    saves.sql("CREATE TABLE t (id int, at timestamptz DEFAULT now(), pid int DEFAULT pg_backend_pid())")
    yield saves
    saves.action.close()
    clear(saves)


TYPES: list[tuple[str, Any, str]] = [
    ("int", 7, "7"),
    ("int", "7", "7"),
    ("bigint", 9007199254740993, "9007199254740993"),
    ("numeric", 0.1, "0.1"),
    ("numeric", "0.10000000000000000000001", "0.10000000000000000000001"),
    ("float8", 1e300, "1e+300"),
    ("boolean", True, "true"),
    ("text", True, "true"),
    ("text", 1.5, "1.5"),
    ("text", 'it\'s "{}" \\ é', 'it\'s "{}" \\ é'),
    ("text", {"a": [1]}, '{"a": [1]}'),
    ("jsonb", {"b": 1, "a": [None, "x"]}, '{"a": [null, "x"], "b": 1}'),
    ("json", {"b": 1, "a": 2}, '{"b": 1, "a": 2}'),
    ("jsonb", [1, 2], "[1, 2]"),
    ("jsonb", "text", '"text"'),
    ("jsonb", None, "none"),
    ("jsonb", 5, "5"),
    ("int[]", [1, None, 3], "{1,NULL,3}"),
    ("text[]", ['a"b', "c,d"], '{"a\\"b","c,d"}'),
    ("date", "2024-02-29", "2024-02-29"),
    ("timestamp", "2024-02-29T12:00:00.5", "2024-02-29 12:00:00.5"),
    ("timestamptz", "2024-02-29T12:00:00+02:00", "2024-02-29 10:00:00+00"),
    ("interval", "1 day", "1 day"),
    ("uuid", "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
    ("inet", "10.0.0.1", "10.0.0.1/32"),
    ("bytea", "\\x00ff", "\\x00ff"),
    ("varchar(3)", "abc", "abc"),
]


@pytest.mark.parametrize(("kind", "given", "stored"), TYPES)
@pytest.mark.parametrize("mode", ["append", "upsert", "update"])
def test_json_lands_in_the_columns_type(saves: Saves, kind: str, given: Any, stored: str, mode: str) -> None:
    saves.sql(f'CREATE TABLE u (k text PRIMARY KEY, "The Value" {kind}, n int DEFAULT 3)')
    if mode == "update":
        saves.sql("INSERT INTO u VALUES ('a')")
    key = None if mode == "append" else "k"
    saves.run([{"k": "a", "The Value": given}], table="public.u", mode=mode, key=key)
    with saves.postgres() as connection:
        connection.execute("SET timezone = 'utc'")
        found = connection.execute("""SELECT coalesce("The Value"::text, 'none'), n FROM u""")
        assert found.fetchall() == [(stored, 3)]


def test_a_table_of_one_column_and_a_view(saves: Saves) -> None:
    saves.sql("CREATE TABLE u (n int)")
    saves.sql("CREATE OR REPLACE VIEW ids AS SELECT id FROM t")
    try:
        assert saves.run([{"n": 1}, {"n": 2}], table="u") == written("postgres", 2, "u")
        assert saves.run([{"id": 1}], table="ids", node="v") == written("postgres", 1, "ids")
        assert saves.sql("SELECT sum(n) FROM u") == [(3,)] and saves.sql("SELECT id FROM t") == [(1,)]
    finally:
        saves.sql("DROP VIEW ids")


def test_a_constraint_that_is_checked_at_the_end_fails_the_save(saves: Saves) -> None:
    saves.sql("CREATE TABLE u (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    failure = saves.fails([{"n": 1}, {"n": 1}], table="u")
    assert failure.code == "target_failed" and "duplicate key" in str(failure)
    assert saves.sql("SELECT * FROM u") == []
    assert saves.run([{"n": 1}], table="u") == written("postgres", 1, "u")


# -- connections -------------------------------------------------------------------------------------


def test_connections_are_kept_between_jobs(saves: Saves) -> None:
    for number in range(3):
        saves.run([{"id": number}], table="t", node=f"n{number}")
    assert saves.sql("SELECT count(DISTINCT pid) FROM t") == [(1,)]
    saves.sql("SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM t) AS pids")
    saves.run([{"id": 9}], table="t", node="n9")
    assert saves.sql("SELECT count(DISTINCT pid) FROM t") == [(2,)]


def test_a_failed_save_leaves_no_transaction_behind(saves: Saves) -> None:
    saves.fails([{"id": "x"}], table="t")
    saves.run([{"id": 1}], table="t")
    idle = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state LIKE 'idle in transaction%%'"
    with saves.postgres() as connection:
        assert connection.execute(idle, [ROLE]).fetchall() == [(0,)]


def test_every_form_of_a_connection(saves: Saves) -> None:
    fields, host = dict(saves.fields), saves.fields["db_host"]
    for number, (auth, spec) in enumerate(
        [
            ("pg", {}),
            ({"type": "postgres", "key": "pg"}, {"dialect": "postgres", "driver": "psycopg"}),
            ({"type": "postgres", "inline": fields}, {}),
            (None, fields),
            (None, {"host": host, "user": ROLE, "password": PASSWORD, "dbname": ROLE}),
            (None, {"dsn": f"host={host} user={ROLE} dbname={ROLE}", "password": PASSWORD}),
        ]
    ):
        saves.run([{"id": number}], table="t", node=f"n{number}", auth=auth, spec=spec)
    saves.run([{"id": 6}], table="t", node="n6", auth={"a": {"key": "pg"}, "b": {"key": "pg"}}, use_auth="b")
    assert saves.sql("SELECT count(*) FROM t") == [(7,)]


def test_connections_that_fail_tell_no_secret(saves: Saves) -> None:
    own = [ForbiddenTarget(saves.fields["db_host"], "5432", ROLE, "somebody")]
    saves.fields["db_name"] = "nowhere"
    failures = [saves.fails({"id": 1}, table="t")]
    del saves.fields["db_user"]
    failures.append(saves.fails({"id": 1}, table="t"))
    failures.append(saves.fails({"id": 1}, table="t", auth={"a": "pg", "b": "pg"}))
    failures.append(saves.fails({"id": 1}, table="t", auth={}, spec={"exactly_once": False}))
    saves.fields |= {"db_user": ROLE, "db_name": ROLE}
    guarded = Saves("postgres", saves.fields["db_host"], saves.data_dir, forbidden=own)
    failures.append(guarded.fails({"id": 1}, table="t"))
    assert [failure.code for failure in failures] == [
        "postgres_connection",
        "credential_invalid",
        "auth_invalid",
        "arguments_invalid",
        "target_forbidden",
    ]
    assert all(PASSWORD not in str(failure) for failure in failures)


def test_the_platforms_own_database_is_refused(saves: Saves) -> None:
    own = {"HOST": saves.fields["db_host"], "PORT": "5432", "NAME": ROLE, "USER": "somebody"}
    saves.action = SaveAction.build(settings_with(DATABASES={"default": own}))
    assert saves.fails({"id": 1}, table="t").code == "target_forbidden"


# -- once --------------------------------------------------------------------------------------------


def test_attempts_at_once_append_once(saves: Saves) -> None:
    """Also where the table of effects is not there yet."""
    told = all_at_once(lambda: saves.run([{"id": number} for number in range(500)], table="t"))
    assert told == [written("postgres", 500)] * 4
    assert saves.sql("SELECT count(*) FROM t") == [(500,)]


def test_attempts_at_once_overwrite_one_after_another(saves: Saves) -> None:
    """An overwrite that does not see the other's rows would leave both."""
    waiting = "SELECT count(*) = 4 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"
    with saves.postgres() as connection:
        connection.execute("LOCK TABLE t IN SHARE MODE")

        def let_them_go() -> None:
            wait_for(lambda: connection.execute(waiting.encode()).fetchone() == (True,), 20)
            connection.commit()

        told = all_at_once(lambda: saves.run([{"id": 1}, {"id": 2}], table="t", mode="overwrite"), let_them_go)
    assert told == [written("postgres", 2)] * 4
    assert saves.sql("SELECT count(*) FROM t") == [(2,)]


def test_an_attempt_killed_before_its_commit_is_done_again(saves: Saves) -> None:
    failures: list[ActionFailed] = []
    text = "INSERT INTO t (id) SELECT :id FROM pg_sleep(60)"
    thread = threading.Thread(target=lambda: failures.append(saves.fails({"id": 1}, statement=text, timeout=60)))
    thread.start()
    sleeping = "FROM pg_stat_activity WHERE query LIKE '%FROM pg_sleep(60)' AND state = 'active'"
    assert wait_for(lambda: saves.sql(f"SELECT pid {sleeping} AND pid <> pg_backend_pid()"), 10)
    saves.sql(f"SELECT pg_terminate_backend(pid) {sleeping} AND pid <> pg_backend_pid()")
    thread.join(10)
    assert [failure.code for failure in failures] == ["target_failed"]
    saves.run({"id": 2}, statement="INSERT INTO t (id) VALUES (:id)")
    assert saves.sql("SELECT id FROM t") == [(2,)]


def test_a_role_that_may_note_nothing_is_told_what_to_do(saves: Saves) -> None:
    saves.sql("ALTER SCHEMA public RENAME TO elsewhere")
    try:
        failure = saves.fails([{"id": 1}], table="elsewhere.t")
        assert failure.code == "target_failed"
        assert "noetl_effects" in str(failure) and "exactly_once: false" in str(failure)
        for _ in range(2):
            saves.run([{"id": 1}], table="elsewhere.t", spec={"exactly_once": False})
    finally:
        saves.sql("ALTER SCHEMA elsewhere RENAME TO public")
    assert saves.sql("SELECT count(*) FROM t") == [(2,)]
    assert saves.sql("SELECT to_regclass('noetl_effects')") == [(None,)]
    assert saves.fails([{"id": 1}], table="t", spec={"exactly_once": "no"}).code == "arguments_invalid"


@pytest.mark.parametrize("mode", ["overwrite", "update", "upsert"])
def test_what_comes_to_the_same_needs_no_note(saves: Saves, mode: str) -> None:
    saves.sql("CREATE TABLE u (n int PRIMARY KEY, m int)")
    saves.run([{"n": 1, "m": 2}], table="u", mode=mode, key="n")
    assert saves.sql("SELECT to_regclass('noetl_effects')") == [(None,)]


# -- how much it asks --------------------------------------------------------------------------------

COUNTING = """
CREATE TABLE counted (pid int DEFAULT pg_backend_pid(), tx bigint DEFAULT txid_current());
CREATE OR REPLACE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO counted DEFAULT VALUES; RETURN NULL; END';
CREATE TRIGGER counting AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION count_statement();
"""
STATEMENT = 'statement: "INSERT INTO t (id) VALUES ({{ params.n }})", params: {n: "{{ n }}"}'
HOWS = [
    ('table: t, data: {id: "{{ n }}"}', 10, 10),
    ('table: t, data: {id: "{{ n }}"}, chunk_size: 500', 2, 2),
    ('table: t, data: {id: "{{ n }}"}, mode: upsert, key: id', 10, 10),
    (STATEMENT, 1000, 10),
]


@pytest.mark.parametrize(("how", "statements", "transactions"), HOWS)
def test_a_save_per_item_in_a_loop_of_a_thousand_is_batched(
    saves: Saves, how: str, statements: int, transactions: int
) -> None:
    with saves.postgres() as connection:
        connection.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
        connection.execute(COUNTING.encode())
    playbook, problems = validate_text(LOOP % f"storage: postgres, auth: pg, {how}")
    assert playbook is not None, problems
    run = LocalRun(
        playbook,
        {},
        kinds={**kinds(lambda request, context: None), "save": saves.action},
        credentials={"pg": Credential("pg", "postgres", saves.fields)},
    )
    run.run()
    assert (run.root.engine.status, run.root.engine.error) == ("completed", None)
    assert run.root.engine.result == {"item_saves": {"items": 1000, "errors": []}}
    assert saves.sql("SELECT count(*), sum(id) FROM t") == [(1000, 499500)]
    assert saves.sql("SELECT count(*), count(DISTINCT tx) FROM counted") == [(statements, transactions)]


def test_a_row_count_of_many_rows_is_one_statement(saves: Saves) -> None:
    with saves.postgres() as connection:
        connection.execute(COUNTING.encode())
    assert saves.run([{"id": number} for number in range(9000)], table="t") == written("postgres", 9000)
    assert saves.sql("SELECT count(*) FROM counted") == [(1,)]


def test_a_statement_sent_many_times_stops_with_the_first_refusal(saves: Saves) -> None:
    saves.sql("ALTER TABLE t ADD CHECK (id <> 250)")
    failure = saves.fails([{"id": n} for n in range(1000)], statement="INSERT INTO t (id) VALUES (:id)")
    assert "entry at index 250: " in str(failure)
    assert saves.sql("SELECT count(*) FROM t") == [(0,)]


def test_a_statement_takes_what_params_of_a_step_take(saves: Saves) -> None:
    saves.sql("CREATE TABLE u (a jsonb, b int[], c timestamptz, d text)")
    text = "INSERT INTO u VALUES (:a, :b, :c::timestamptz, ':d' || :d)"
    saves.run([{"a": {"k": 1}, "b": [1, 2], "c": "2024-01-01T00:00:00Z", "d": None}], statement=text)
    assert saves.sql("SELECT a, b, c = '2024-01-01 00:00+00', d FROM u") == [({"k": 1}, [1, 2], True, None)]
    failure = saves.fails([{"a": {}, "b": [1, "x"], "c": None, "d": "\x00"}], statement=text, node="other")
    assert failure.code == "target_failed"


def test_a_connection_that_is_gone_is_told(saves: Saves) -> None:
    text = "SELECT pg_terminate_backend(pg_backend_pid()), :n::int"
    assert saves.fails([{"n": 1}, {"n": 2}], statement=text).code == "target_failed"
