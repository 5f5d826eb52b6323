"""The postgres kind on a real server: results, transactions, stopping, refusals, silence about passwords."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from psycopg import sql

from executors.actions.postgres import ForbiddenTarget, PostgresAction
from executors.actions.postgres.statements import ends_transaction, split_statements
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from noetl_site import embedded

PASSWORD = "s3cr3t p%w"
# Of this worker alone: the tests share a table.
ROLE = f"step_tester_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@pytest.fixture(scope="module")
def socket_folder() -> str:
    """The socket of the tests' own server, with a role and a database that belong to these tests."""
    running = embedded.ensure_running(settings.NOETL_DATA_DIR)
    with embedded.connect(running.folder) as connection:
        password = sql.Literal(PASSWORD)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), password))
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(ROLE)))
    return str(running.folder.postgres_socket)


class Step:
    def __init__(self, host: str) -> None:
        self.fields = {"db_host": host, "db_user": ROLE, "db_password": PASSWORD, "db_name": ROLE}
        self.action = PostgresAction()
        self.cancelled = threading.Event()

    def run(self, text: Any, *, timeout: float = 20, **arguments: Any) -> Any:
        given = {"query": text, "auth": "pg", **arguments}
        request = ActionRequest("postgres", given, {}, "e1", "e1:s", "s", 1, "e1:s", timeout)
        credential = Credential("pg", "postgres", self.fields)
        context = Lent(Path(), self.cancelled, lambda name: credential)
        return self.action.run(request, context)

    def fails(self, text: Any, **arguments: Any) -> ActionFailed:
        with pytest.raises(ActionFailed) as caught:
            self.run(text, **arguments)
        return caught.value

    def count(self, text: str) -> int:
        return int(self.run(text)["command_0"]["rows"][0]["count"])


@pytest.fixture
def step(socket_folder: str) -> Step:
    step = Step(socket_folder)
    step.run("drop table if exists t; create table t (a int)")
    return step


def test_rows_and_messages(step: Step) -> None:
    result = step.run("insert into t values (1), (2); select * from t; select 1 where false; update t set a = 3")
    assert result["command_0"] == {"status": "success", "row_count": 2, "message": "INSERT 0 2"}
    assert result["command_1"] == {
        "status": "success",
        "rows": [{"a": 1}, {"a": 2}],
        "row_count": 2,
        "columns": ["a"],
    }
    assert result["command_2"]["rows"] == [] and result["command_2"]["columns"] == ["?column?"]
    assert result["command_3"]["row_count"] == 2


def test_values_become_json(step: Step) -> None:
    sql = """select 1.50::numeric n, '2020-01-02'::date d, '{"a": [1]}'::jsonb j, '\\x00ff'::bytea b,
             array[1, 2] l, '00000000-0000-0000-0000-000000000001'::uuid u, '10.0.0.1'::inet i, 'x' n"""
    assert step.run(sql)["command_0"]["rows"] == [
        {
            "n": 1.5,
            "d": "2020-01-02",
            "j": {"a": [1]},
            "b": "AP8=",
            "l": [1, 2],
            "u": "00000000-0000-0000-0000-000000000001",
            "i": "10.0.0.1",
            "n_2": "x",
        }
    ]


def test_many_rows_come_in_chunks(step: Step) -> None:
    rows = step.run("select g from generate_series(1, 3001) g")["command_0"]["rows"]
    assert [row["g"] for row in rows] == list(range(1, 3002))


def test_params_are_bound(step: Step) -> None:
    nasty = "x'); drop table t; --"
    sql = "select %(text)s::text as a, %(map)s as b, 5 %% 3 as c"
    row = step.run(sql, params={"text": nasty, "map": {"k": 1}})["command_0"]["rows"][0]
    assert row == {"a": nasty, "b": {"k": 1}, "c": 2}
    assert step.count("select count(*) from t") == 0
    assert step.run("select 5 % 3 as a")["command_0"]["rows"] == [{"a": 2}], "no params: % is only itself"
    assert step.fails("select %(missing)s", params={}).code == "sql_error"


def test_each_statement_counts_for_itself_by_default(step: Step) -> None:
    failure = step.fails("insert into t values (1); select nope; insert into t values (2)")
    assert failure.code == "sql_error" and str(failure) == 'command_1: column "nope" does not exist'
    assert failure.data["command_0"]["row_count"] == 1 and failure.data["command_1"]["sqlstate"] == "42703"
    assert step.count("select count(*) from t") == 1


def test_goes_on_after_an_error_when_told_to(step: Step) -> None:
    failure = step.fails(
        "insert into t values (1); select nope; insert into t values (2); select nada", on_statement_error="continue"
    )
    assert failure.code == "sql_error"
    assert str(failure) == 'command_1: column "nope" does not exist; command_3: column "nada" does not exist'
    assert [failure.data[f"command_{n}"]["status"] for n in range(4)] == ["success", "error", "success", "error"]
    assert step.count("select count(*) from t") == 2
    both = step.fails("select 1", transaction="all", on_statement_error="continue")
    assert both.code == "arguments_invalid"


def test_all_or_nothing(step: Step) -> None:
    step.fails("insert into t values (1); select nope", transaction="all")
    assert step.count("select count(*) from t") == 0
    step.run("insert into t values (1); insert into t values (2)", transaction="all")
    assert step.count("select count(*) from t") == 2
    failure = step.fails("insert into t values (3); commit; select nope", transaction="all")
    assert "may not begin or end" in str(failure) and step.count("select count(*) from t") == 2


def test_an_open_transaction_is_an_error(step: Step) -> None:
    assert "left open" in str(step.fails("begin; insert into t values (1)"))
    assert step.count("select count(*) from t") == 0
    step.run("begin; insert into t values (1); commit")
    assert step.count("select count(*) from t") == 1


def test_copy_is_refused(step: Step) -> None:
    assert "COPY" in str(step.fails("copy t to stdout")) and "COPY" in str(step.fails("copy t from stdin"))


def test_rows_and_bytes_are_bounded(step: Step) -> None:
    assert step.fails("select repeat('x', 100) from generate_series(1, 10000000)").code == "output_too_large"
    assert step.fails("select repeat('x', 1000000) from generate_series(1, 100)").code == "output_too_large"


def running(step: Step) -> int:
    return step.count(
        "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()"
        " and state = 'active'"
    )


def gone(step: Step) -> bool:
    deadline = time.monotonic() + 5
    while running(step) and time.monotonic() < deadline:
        pass
    return running(step) == 0


def test_a_timeout_stops_the_statement_on_the_server(step: Step) -> None:
    assert step.fails("select pg_sleep(60)", timeout=0.5).code == "timeout"
    assert gone(step)


def test_cancel_stops_the_statement_on_the_server(step: Step, socket_folder: str) -> None:
    other = Step(socket_folder)
    outcome: list[ActionFailed] = []
    thread = threading.Thread(target=lambda: outcome.append(other.fails("select pg_sleep(60)", timeout=60)))
    thread.start()
    deadline = time.monotonic() + 5
    while not running(step) and time.monotonic() < deadline:
        pass
    other.cancelled.set()
    thread.join(5)
    assert outcome[0].code == "cancelled" and gone(step)


def test_the_password_is_in_no_error(step: Step) -> None:
    step.fields["db_name"] = f"no-{PASSWORD}"
    failure = step.fails("select 1")
    assert failure.code == "postgres_connection" and PASSWORD not in str(failure)
    step.fields["db_name"] = "postgres"
    failure = step.fails(f"select '{PASSWORD}'::int")
    assert PASSWORD not in str(failure) + str(failure.data)
    assert PASSWORD not in repr(Credential("a", "postgres", step.fields))


@pytest.mark.parametrize("own", [{"user": ROLE, "dbname": "noetl"}, {"user": "noetl", "dbname": ROLE}])
def test_the_orchestrators_own_database_is_refused(step: Step, own: dict[str, str]) -> None:
    step.action = PostgresAction([ForbiddenTarget(host="localhost", port="5432", **own)])
    assert step.fails("select 1").code == "target_forbidden"


def test_another_server_is_not_refused(step: Step) -> None:
    step.action = PostgresAction([ForbiddenTarget("localhost", "5999", "postgres", "postgres")])
    assert step.run("select 1 a")["command_0"]["rows"] == [{"a": 1}]


@pytest.mark.parametrize("field", ["db_host", "db_user", "db_name"])
def test_a_missing_field_is_named(step: Step, field: str) -> None:
    del step.fields[field]
    failure = step.fails("select 1")
    assert failure.code == "credential_invalid" and field in str(failure)


def test_a_dsn_is_a_credential_too(step: Step, socket_folder: str) -> None:
    step.fields = {"dsn": f"host={socket_folder} user={ROLE} dbname={ROLE} password='{PASSWORD}' service=nope"}
    assert step.run("select 1 a")["command_0"]["rows"] == [{"a": 1}]


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("select ';'; select \"a;b\"", ["select ';'", 'select "a;b"']),
        ("select 'it''s;'", ["select 'it''s;'"]),
        ("select E'a\\';b'; select 2", ["select E'a\\';b'", "select 2"]),
        ("select 'a\\'; select 2", ["select 'a\\'", "select 2"]),
        ("do $$ begin; end; $$; select 1", ["do $$ begin; end; $$", "select 1"]),
        ("select $a$ ; $b$ ; $a$; select 1", ["select $a$ ; $b$ ; $a$", "select 1"]),
        ("select a$b$c; select 1", ["select a$b$c", "select 1"]),
        ("select $1; select 2", ["select $1", "select 2"]),
        ("select 1 -- a;b\n; select 2", ["select 1 -- a;b", "select 2"]),
        ("select /* a; /* b; */ c; */ 1; select 2", ["select /* a; /* b; */ c; */ 1", "select 2"]),
        ("select 'two\n  lines'", ["select 'two\n  lines'"]),
        (" ; -- nothing\n /* at all */ ;", []),
        ("", []),
        ("select 'open; ", ["select 'open;"]),
        ("select $1_000; select 2", ["select $1_000", "select 2"]),
        (
            "create function f() returns int begin atomic select case when true then 1 end; end; select 1",
            [
                "create function f() returns int begin atomic select case when true then 1 end; end",
                "select 1",
            ],
        ),
    ],
)
def test_splitting(sql: str, statements: list[str]) -> None:
    assert split_statements(sql) == statements


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("BEGIN", True),
        ("/* x */ commit", True),
        ("rollback to a", False),
        ("rollback", True),
        ("select 1", False),
        ("prepare transaction 'x'", True),
        ("prepare x as select 1", False),
        ("-- a\nend", True),
    ],
)
def test_transaction_statements_are_known(statement: str, expected: bool) -> None:
    assert ends_transaction(statement) is expected
