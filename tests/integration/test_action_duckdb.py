"""The duckdb kind beside real servers and files: attached databases, buckets, bulk, stopping, silence about secrets."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from psycopg import sql

from executors.actions.duckdb import DuckdbAction
from executors.actions.postgres import ForbiddenTarget, PostgresAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from noetl_site import embedded
from tests.support.buckets import Buckets
from tests.support.inspection import wait_for

PASSWORD = "d0nt t3ll p'w"
ROLE = f"duck_tester_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
OTHER = f"{ROLE}_other"


@pytest.fixture(scope="module")
def socket_folder() -> str:
    """The socket of the tests' own server, with a role and two databases that belong to these tests."""
    running = embedded.ensure_running(settings.NOETL_DATA_DIR)
    with embedded.connect(running.folder) as connection:
        password = sql.Literal(PASSWORD)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), password))
            for name in (ROLE, OTHER):
                own = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(own.format(sql.Identifier(name), sql.Identifier(ROLE)))
    return str(running.folder.postgres_socket)


def connecting(fields: dict[str, str]) -> dict[str, Any]:
    """psycopg's words for a credential's fields."""
    return {name: fields[f"db_{name}"] for name in ("host", "user", "password")} | {"dbname": fields["db_name"]}


@pytest.fixture(scope="module")
def server(socket_folder: str) -> Iterator[dict[str, str]]:
    """The fields of a credential for the first database, which has the table `numbers` of 1,000 rows."""
    fields = {"db_host": socket_folder, "db_user": ROLE, "db_password": PASSWORD, "db_name": ROLE}
    with psycopg.connect(**connecting(fields), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS numbers; CREATE TABLE numbers (n int PRIMARY KEY, word text)")
        connection.execute("INSERT INTO numbers SELECT n, 'w' || n FROM generate_series(1, 1000) n")
        yield fields


@pytest.fixture(scope="module")
def action(server: dict[str, str]) -> Iterator[DuckdbAction]:
    own = ForbiddenTarget(host=server["db_host"], port="", dbname="noetl", user="noetl_app")
    action = DuckdbAction(postgres_options=PostgresAction([own]).target_options)
    yield action
    action.close()


class Step:
    def __init__(self, action: DuckdbAction, data_dir: Path, server: dict[str, str]) -> None:
        self.action, self.data_dir, self.cancelled = action, data_dir, threading.Event()
        self.credentials = {
            "pg_main": Credential("pg_main", "postgres", server),
            "pg_other": Credential("pg_other", "postgres", {**server, "db_name": OTHER}),
        }

    def run(self, text: Any, *, timeout: float = 60, with_: dict[str, Any] | None = None, **arguments: Any) -> Any:
        given = {"query": text, **arguments}
        request = ActionRequest("duckdb", given, with_ or {}, "e1", "e1:s", "s", 1, "e1:s", timeout)
        context = Lent(self.data_dir, self.cancelled, self.credentials.__getitem__)
        return self.action.run(request, context)

    def rows(self, text: Any, **arguments: Any) -> Any:
        *_, last = self.run(text, **arguments).values()
        return last["rows"]

    def fails(self, text: Any, **arguments: Any) -> ActionFailed:
        with pytest.raises(ActionFailed) as caught:
            self.run(text, **arguments)
        return caught.value


@pytest.fixture
def step(action: DuckdbAction, tmp_path: Path, server: dict[str, str]) -> Step:
    return Step(action, tmp_path, server)


# -- Postgres -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "alias"),
    [
        ("pg_main", "pg_main"),
        ({"pg": {"type": "postgres", "key": "pg_main"}}, "pg"),
        ({"pg": "pg_main"}, "pg"),
        ({"key": "pg_main"}, "pg_main"),
        ({"type": "postgres", "credential": "pg_main"}, "pg_main"),
        ({"source": "credential", "name": "pg_main"}, "pg_main"),
        ({"pg": {"provider": "credential_store", "key": "pg_main", "type": "postgres"}}, "pg"),
    ],
)
def test_a_database_is_attached_under_its_alias(step: Step, auth: Any, alias: str) -> None:
    assert step.rows(f"select count(*) n from {alias}.numbers", auth=auth) == [{"n": 1000}]


def test_the_originals_inputs_attach(step: Step, server: dict[str, str]) -> None:
    assert step.rows("select count(*) n from postgres_db.numbers", with_=dict(server)) == [{"n": 1000}]
    given = {**server, "db_type": "postgres", "db_alias": "src", "db_read_only": True}
    assert step.rows("select max(word) w from src.numbers", with_=given) == [{"w": "w999"}]
    assert step.fails("create table src.nope (a int)", with_=given).code == "sql_error"


def test_the_originals_keys_of_buckets(step: Step) -> None:
    given = {"key_id": "AKID", "secret_key": "h1dd3n/key"}
    told = step.rows("select name, type, scope, secret_string from duckdb_secrets()", with_=given)
    assert [(row["name"], row["type"], row["scope"]) for row in told] == [("gcs_secret", "gcs", ["gs://", "gcs://"])]
    assert "h1dd3n" not in str(told)


def test_nothing_is_attached_unasked(step: Step) -> None:
    assert step.rows("select count(*) n from duckdb_databases() where type = 'postgres'") == [{"n": 0}]
    assert (
        step.rows("select extension_name e from duckdb_extensions() where loaded and extension_name like '%postgres%'")
        == []
    )


def test_what_is_attached_need_not_be_attached_again(step: Step) -> None:
    text = (
        "install postgres; load postgres_scanner; attach '' as PG (type postgres, secret pg); from pg.numbers limit 1"
    )
    result = step.run(text, auth={"pg": "pg_main"})
    assert [result[f"command_{n}"]["status"] for n in range(4)] == ["skipped", "skipped", "skipped", "success"]
    assert result["command_2"]["message"] == "pg is attached already"


def test_rows_go_between_two_databases(step: Step) -> None:
    auth = {"src": "pg_main", "dst": {"type": "postgres", "key": "pg_other"}}
    text = """
        create table doubled as select n, n * 2 as twice, word from src.numbers;
        drop table if exists dst.doubled;
        create table dst.doubled as from doubled;
        select sum(twice)::int as s from dst.doubled
    """
    assert step.rows(text, auth=auth) == [{"s": 1_001_000}]
    assert step.rows("select count(*) n from pg_other.doubled", auth="pg_other") == [{"n": 1000}]


def test_files_go_between_two_databases(step: Step) -> None:
    text = """
        attach 'a.duckdb' as a; attach 'b.duckdb' as b;
        create table a.t as select 1 x; copy from database a to b; from b.t
    """
    assert step.rows(text) == [{"x": 1}]
    assert step.rows("attach 'b.duckdb' (read_only); from b.t") == [{"x": 1}]


def test_statements_run_on_the_server(step: Step) -> None:
    query = "from postgres_query('pg', 'select count(*)::int as n from numbers')"
    assert step.rows(query, auth={"pg": "pg_main"}) == [{"n": 1000}]
    step.run("call postgres_execute('pg', 'create table if not exists made_there (a int)')", auth={"pg": "pg_main"})


def test_a_query_that_runs_again_for_its_file_counts_once_on_the_server(step: Step, server: dict[str, str]) -> None:
    auth = {"pg": "pg_main"}
    with psycopg.connect(**connecting(server), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS log CASCADE; CREATE TABLE log (n int)")
        connection.execute(
            "CREATE OR REPLACE FUNCTION note(g int) RETURNS int LANGUAGE sql"
            " AS 'INSERT INTO log VALUES (g) RETURNING n'"
        )
    text = "from postgres_query('pg', 'select note(g) n from generate_series(1, 20000) g')"
    assert step.run(text, auth=auth)["command_0"]["row_count"] == 20_000
    assert step.rows("select count(*) n from pg.log", auth=auth) == [{"n": 20_000}]


def test_a_hundred_thousand_rows_go_there_and_back(step: Step) -> None:
    auth = {"pg": "pg_main"}
    text = """
        drop table if exists pg.wide;
        create table pg.wide as select range as n, repeat('x', 50) as t from range(100_000);
        create table here as select n, upper(t) as t from pg.wide;
        drop table if exists pg.back;
        create table pg.back as from here;
        select count(*) n, min(t) t from pg.back
    """
    assert step.rows(text, auth=auth) == [{"n": 100_000, "t": "X" * 50}]


def test_own_databases_are_forbidden(step: Step, server: dict[str, str]) -> None:
    step.credentials["own"] = Credential("own", "postgres", {**server, "db_name": "noetl"})
    step.credentials["role"] = Credential("role", "postgres", {**server, "db_user": "noetl_app"})
    assert step.fails("select 1", auth="own").code == "target_forbidden"
    assert step.fails("select 1", auth={"x": "role"}).code == "target_forbidden"
    assert step.fails("select 1", with_={**server, "db_name": "noetl"}).code == "target_forbidden"


def test_a_kind_without_leave_attaches_nothing(step: Step) -> None:
    action = DuckdbAction()
    try:
        step.action = action
        assert step.fails("select 1", auth="pg_main").code == "not_supported"
    finally:
        action.close()


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"a b": "pg_main"}, "auth_invalid"),
        ({"pg": "pg_main", "PG": "pg_other"}, "auth_invalid"),
        ({"pg": 7}, "auth_invalid"),
        ({"pg": {"type": "postgres"}}, "auth_invalid"),
        ({"source": "env", "name": "X"}, "secret_not_found"),
        ({"lake": {"key": "pg_main", "endpoint": "127.0.0.1:1"}}, "auth_invalid"),
        (
            {"lake": {"type": "s3", "inline": {"key_id": "a", "secret_key": "b", "endpoint": "10.0.0.1"}}},
            "auth_invalid",
        ),
        ({"web": {"type": "bearer", "key": "pg_main"}}, "not_supported"),
        ({"my": {"type": "mysql", "key": "pg_main"}}, "not_supported"),
        ("empty", "credential_invalid"),
        ({"f": {"type": "sqlite", "key": "empty"}}, "credential_invalid"),
        ({"f": {"type": "s3", "key": "empty"}}, "credential_invalid"),
    ],
)
def test_what_cannot_be_attached_is_told(step: Step, auth: Any, code: str) -> None:
    step.credentials["empty"] = Credential("empty", "postgres", {})
    assert step.fails("select 1", auth=auth).code == code


def test_no_password_is_told(step: Step, server: dict[str, str]) -> None:
    step.credentials["wrong"] = Credential("wrong", "postgres", {**server, "db_password": "wr0ng s3cr3t"})
    failure = step.fails("select 1", auth="wrong")
    assert failure.code == "attach_failed" and "wr0ng" not in str(failure)
    shown = step.fails(
        ["from duckdb_secrets()", "from duckdb_databases()", "from duckdb_settings()", "select error('x')"],
        auth={"pg": "pg_main"},
        on_statement_error="continue",
    )
    assert "d0nt" not in str(shown) + str(shown.data) and "redacted" in str(shown.data)


def test_a_cancelled_step_ends_at_once(step: Step, server: dict[str, str]) -> None:
    asleep = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE usename = %s AND query LIKE '%%pg_sleep(61)%%' AND pid <> pg_backend_pid()"
    )
    failures: list[ActionFailed] = []
    text = "from postgres_query('pg', 'select pg_sleep(61)')"
    thread = threading.Thread(target=lambda: failures.append(step.fails(text, auth={"pg": "pg_main"})))
    with psycopg.connect(**connecting(server), autocommit=True) as connection:

        def sleepers() -> int:
            return int(connection.execute(asleep, [ROLE]).fetchall()[0][0])

        thread.start()
        wait_for(sleepers)
        step.cancelled.set()
        thread.join()
        assert failures[0].code == "cancelled"


# -- SQLite -------------------------------------------------------------------------------------------


def test_sqlite_files_are_attached(action: DuckdbAction, tmp_path: Path, server: dict[str, str]) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    with sqlite3.connect(allowed / "old.sqlite") as made:
        made.execute("create table t (a int, b text)")
        made.execute("insert into t values (1, 'x')")
    made.close()
    own = DuckdbAction([allowed])
    try:
        step = Step(own, tmp_path / "data", server)
        step.credentials["old"] = Credential("old", "sqlite", {"db_path": "old.sqlite"})
        assert step.rows("from old.t", auth="old") == [{"a": 1, "b": "x"}]
        assert step.rows("from sqlite_db.t", with_={"db_type": "sqlite", "db_path": "old.sqlite"}) == [
            {"a": 1, "b": "x"}
        ]
        assert step.fails("insert into old.t values (2, 'y')", auth="old").code == "sql_error"
        # One of its own is made, and may be written to.
        step.credentials["mine"] = Credential("mine", "sqlite", {"db_path": "mine.sqlite"})
        assert step.rows("create table mine.t as select 7 a; from mine.t", auth="mine") == [{"a": 7}]
        for path in ("/etc/passwd", "../../secrets.json", "nowhere.sqlite"):
            step.credentials["bad"] = Credential("bad", "sqlite", {"db_path": f"../{path}" if path[0] == "n" else path})
            assert step.fails("select 1", auth="bad").code == "path_not_allowed"
    finally:
        own.close()


# -- buckets ------------------------------------------------------------------------------------------


@pytest.fixture
def buckets() -> Iterator[Buckets]:
    with Buckets() as buckets:
        yield buckets


@pytest.fixture
def lake(step: Step, buckets: Buckets) -> Step:
    fields = {"key_id": "AKID", "secret_key": "h1dd3n/key", "endpoint": buckets.address, "region": "us-east-1"}
    step.credentials["hmac1"] = Credential("hmac1", "gcs", fields)
    step.credentials["s3"] = Credential("s3", "s3", fields)
    return step


@pytest.mark.parametrize(
    ("auth", "scheme"),
    [
        ({"lake": {"type": "gcs", "key": "hmac1", "scope": "gs://b"}}, "gs"),
        ({"lake": {"type": "gcs", "key": "hmac1", "scope": "gs://b"}}, "gcs"),
        ({"lake": {"type": "s3", "key": "s3", "scope": "s3://b"}}, "s3"),
        ({"lake": {"type": "hmac", "key": "s3", "service": "s3", "scope": "s3://b"}}, "s3"),
        ("s3", "s3"),
        ("hmac1", "gs"),
    ],
)
def test_buckets_are_read_and_written(lake: Step, buckets: Buckets, auth: Any, scheme: str) -> None:
    lake.run(f"copy (select 1 a, 'x' b) to '{scheme}://b/folder/out.csv'", auth=auth)
    assert buckets.objects["/b/folder/out.csv"] == b"a,b\n1,x\n"
    assert lake.rows(f"from '{scheme}://b/folder/out.csv'", auth=auth) == [{"a": 1, "b": "x"}]
    lake.run(f"copy (select 7 a) to '{scheme}://b/out.parquet'", auth=auth)
    assert lake.rows(f"from '{scheme}://b/out.parquet'", auth=auth) == [{"a": 7}]
    assert all("Credential=AKID/" in signed for signed in buckets.signatures)


def test_a_scope_bounds_what_is_reached(lake: Step, buckets: Buckets) -> None:
    auth = {"lake": {"type": "s3", "key": "s3", "scope": "s3://b/in"}}
    buckets.objects["/b/other.csv"] = buckets.objects["/bb/x.csv"] = b"a\n1\n"
    for text in (
        "from 's3://b/other.csv'",
        "from 's3://bb/x.csv'",
        "from 's3://b/inside.csv'",
        "copy (select 1) to 's3://b/other2.csv'",
        "copy (select 1) to 's3://b/in/../other2.csv'",
        "from 'gs://b/in/x.csv'",
    ):
        assert lake.fails(text, auth=auth).code in ("sql_error", "sql_refused"), text
    assert not buckets.signatures and "/b/other2.csv" not in buckets.objects


def test_an_address_names_no_other_server(lake: Step, buckets: Buckets) -> None:
    auth = {"lake": {"type": "s3", "key": "s3", "scope": "s3://b"}}
    with Buckets() as trap:
        trap.objects["/b/x.csv"] = trap.objects["/x.csv"] = b"a\n1\n"
        there = f"s3_endpoint={trap.address.removeprefix('http://')}&s3_use_ssl=false&s3_url_style=path"
        for text in (
            f"from 's3://b/x.csv?{there}'",
            f"from read_csv('s3://b/x.csv' || '?' || '{there}')",
            f"copy (select 1) to 's3://b/x.csv?{there}'",
            f"from read_csv('{trap.address}/b/x.csv')",
        ):
            lake.fails(text, auth=auth)
        assert not trap.asked


def test_no_key_is_told(lake: Step) -> None:
    auth = {"lake": {"type": "s3", "key": "s3"}}
    failure = lake.fails("from 's3://b/missing.csv'", auth=auth)
    assert failure.code == "sql_error" and "h1dd3n" not in str(failure) + str(failure.data)
    assert "h1dd3n" not in str(lake.run("from duckdb_secrets()", auth=auth))
