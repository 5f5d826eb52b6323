"""The postgres kind on a real server: results, transactions, stopping, refusals, silence about passwords."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.contract import ActionFailed, Credential
from tests.support.database_steps import PASSWORD, Step, peak_of, step_socket


@pytest.fixture(scope="module")
def socket_folder() -> str:
    return step_socket()


@pytest.fixture
def step(socket_folder: str, tmp_path: Path) -> Iterator[Step]:
    step = Step(socket_folder, tmp_path)
    step.run("drop table if exists t; create table t (a int)")
    yield step
    step.action.close()


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


@pytest.mark.parametrize("word", ["command", "commands", "query"])
@pytest.mark.parametrize("text", ["select 1 as a; select 'x;y' as b", ["select 1 as a", "select 'x;y' as b"]])
def test_the_words_for_statements(step: Step, word: str, text: Any) -> None:
    told = step.run(None, **{word: text})
    assert [told[f"command_{n}"]["rows"] for n in (0, 1)] == [[{"a": 1}], [{"b": "x;y"}]]


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


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("12345678901234567::int8", 12345678901234567),
        ("true", True),
        ("null::int", None),
        ("0.1::numeric", 0.1),
        ("'NaN'::numeric", "NaN"),
        ("'-Infinity'::float8", "-Infinity"),
        ("array[1.5, 'NaN']::numeric[]", [1.5, "NaN"]),
        ("array[[1, 2], [3, null]]", [[1, 2], [3, None]]),
        ("array['a,b', '\"', null]", ["a,b", '"', None]),
        ("'[1, {\"a\": null}]'::json", [1, {"a": None}]),
        ("'{\"a\": 1.5}'::jsonb", {"a": 1.5}),
        ("array['{\"a\": 1}'::jsonb]", [{"a": 1}]),
        ("'2020-02-29'::date", "2020-02-29"),
        ("'2020-02-29 12:00:00.5'::timestamp", "2020-02-29T12:00:00.500000"),
        ("'2020-02-29 12:00+02'::timestamptz at time zone 'utc'", "2020-02-29T10:00:00"),
        ("'12:30'::time", "12:30:00"),
        ("'infinity'::date", "infinity"),
        ("'-infinity'::timestamp", "-infinity"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("'infinity'::timestamptz", "infinity"),
        ("'1 month 2 days'::interval", "1 mon 2 days"),
        ("'[1,5)'::int4range", "[1,5)"),
        ("'{[1,2),[4,5)}'::int4multirange", "{[1,2),[4,5)}"),
        ("'\\xdeadbeef'::bytea", "3q2+7w=="),
        ("'(1,2)'::point", "(1,2)"),
        ("row(1, 'a')", ["1", "a"]),
        ("'10.0.0.0/8'::cidr", "10.0.0.0/8"),
        ("'a'::char(3)", "a  "),
        ("1::bit(3)", "001"),
        ("'a b'::tsvector", "'a' 'b'"),
        ("'public'::regnamespace", "public"),
    ],
)
def test_types_are_kept_as_far_as_json_can(step: Step, sql: str, told: Any) -> None:
    assert step.value(f"select {sql}") == told


def test_a_row_without_columns_is_a_row(step: Step) -> None:
    assert step.run("select from generate_series(1, 2)")["command_0"] == {
        "status": "success",
        "rows": [{}, {}],
        "row_count": 2,
        "columns": [],
    }


def test_many_rows_come_in_chunks(step: Step) -> None:
    rows = step.run("select g from generate_series(1, 3001) g")["command_0"]["rows"]
    assert [row["g"] for row in rows] == list(range(1, 3002))


def test_params_are_bound(step: Step) -> None:
    nasty = "x'); drop table t; --"
    sql = "select %(text)s::text as a, %(map)s as b, 5 %% 3 as c, :text || ':text' as d"
    row = step.run(sql, params={"text": nasty, "map": {"k": 1}})["command_0"]["rows"][0]
    assert row == {"a": nasty, "b": {"k": 1}, "c": 2, "d": f"{nasty}:text"}
    assert step.value("select count(*) from t") == 0
    assert step.value("select 5 % 3") == 2, "no params: % is only itself"
    assert step.fails("select %(missing)s", params={}).code == "sql_error"


@pytest.mark.parametrize(
    ("sql", "value", "told"),
    [
        ("select :v::int + 1", 1, 2),
        ("select :v::int + 1", "1", 2),
        ("select 7 = any(:v)", [5, 7], True),
        ("select 'b' = any(:v)", ["a", "b"], True),
        ("select '00000000-0000-0000-0000-000000000001'::uuid = any(:v::uuid[])", ["0" * 31 + "1"], True),
        ("select 7 = any(:v)", [], False),
        ("select :v::jsonb", {"a": [1, None]}, {"a": [1, None]}),
        ("select :v::text is null", None, True),
        ("select not :v", True, False),
        ("select :v::numeric * 2", 1.25, 2.5),
        ("select (array[1, 2, 3])[:v]", 2, 2),
        ("select (array[1, 2, 3])[2:]::text || :v", "x", "{2,3}x"),
        ("select a from (values (1), (2)) as x(a) limit :v", 1, 1),
        ("insert into t values (:v) returning a", 5, 5),
        ("select count(*) from t where a = :v", 2**40, 0),
    ],
)
def test_params_of_every_type(step: Step, sql: str, value: Any, told: Any) -> None:
    assert step.value(sql, params={"v": value}) == told


def test_params_reach_the_server_as_values(step: Step) -> None:
    """They are no part of the text: the server itself sees numbers in their places."""
    told = step.value("select query from pg_stat_activity where pid = pg_backend_pid() and 1 = :v", params={"v": 1})
    assert "1 =  $1" in told


@pytest.mark.parametrize("sql", ["alter table t alter a set default :v", "set datestyle = :v"])
def test_a_statement_that_takes_no_params_is_told(step: Step, sql: str) -> None:
    failure = step.fails(f"select 1; {sql}", params={"v": 1})
    assert "command_1" in str(failure) and "`params`" in str(failure)


def test_call_is_its_own_transaction(step: Step) -> None:
    """A procedure may commit: reference 7.4 runs it in autocommit."""
    step.run(
        "create or replace procedure fill(inout n int) language plpgsql as $$"
        " begin insert into t values (n); commit; n := n + 1; insert into t values (n); rollback; end $$"
    )
    told = step.run("call fill(1); call fill(:n)", params={"n": 5})
    assert [told[f"command_{n}"]["rows"] for n in (0, 1)] == [[{"n": 2}], [{"n": 6}]]
    assert step.value("select json_agg(a) from t") == [1, 5]
    step.run("vacuum t")


def test_each_statement_counts_for_itself_by_default(step: Step) -> None:
    failure = step.fails("insert into t values (1); select nope; insert into t values (2)")
    assert failure.code == "sql_error" and str(failure) == 'command_1: column "nope" does not exist'
    assert failure.data["command_0"]["row_count"] == 1 and failure.data["command_1"]["sqlstate"] == "42703"
    assert step.value("select count(*) from t") == 1


def test_goes_on_after_an_error_when_told_to(step: Step) -> None:
    failure = step.fails(
        "insert into t values (1); select nope; insert into t values (2); select nada", on_statement_error="continue"
    )
    assert failure.code == "sql_error"
    assert str(failure) == 'command_1: column "nope" does not exist; command_3: column "nada" does not exist'
    assert [failure.data[f"command_{n}"]["status"] for n in range(4)] == ["success", "error", "success", "error"]
    assert step.value("select count(*) from t") == 2
    both = step.fails("select 1", transaction="all", on_statement_error="continue")
    assert both.code == "arguments_invalid"


def test_a_value_that_cannot_be_sent_is_an_error_among_the_results(step: Step) -> None:
    failure = step.fails(
        "select 1 as a; select :bad::text; select 3 as c", params={"bad": "a\x00b"}, on_statement_error="continue"
    )
    assert failure.code == "sql_error" and str(failure).startswith("command_1: ")
    assert [failure.data[f"command_{n}"]["status"] for n in range(3)] == ["success", "error", "success"]


def test_all_or_nothing(step: Step) -> None:
    step.fails("insert into t values (1); select nope", transaction="all")
    assert step.value("select count(*) from t") == 0
    step.run("insert into t values (1); insert into t values (2)", transaction="all")
    assert step.value("select count(*) from t") == 2
    step.run("savepoint a; insert into t values (9); rollback to savepoint a", transaction="all")
    failure = step.fails("insert into t values (3); commit; select nope", transaction="all")
    assert "may not begin or end" in str(failure) and step.value("select count(*) from t") == 2


def test_an_open_transaction_is_an_error(step: Step) -> None:
    assert "left open" in str(step.fails("begin; insert into t values (1)"))
    assert step.value("select count(*) from t") == 0
    step.run("begin; insert into t values (1); commit")
    assert step.value("select count(*) from t") == 1


def test_a_check_at_the_end_of_the_transaction_is_an_error(step: Step) -> None:
    step.run("drop table if exists once; create table once (a int unique deferrable initially deferred)")
    failure = step.fails("insert into once values (1), (1)", transaction="all")
    assert failure.code == "sql_error" and str(failure).startswith("COMMIT: duplicate key")
    step.run("drop table once")


def test_what_only_psql_reads_is_told_before_anything_runs(step: Step) -> None:
    failure = step.fails("insert into t values (1); \\copy t from 'x'")
    assert failure.code == "sql_error" and "`copy`" in str(failure)
    assert step.value("select count(*) from t") == 0


def test_rows_and_bytes_are_bounded(step: Step) -> None:
    assert step.fails("select repeat('x', 100) from generate_series(1, 10000000)").code == "output_too_large"
    assert step.fails("select repeat('x', 1000000) from generate_series(1, 100)").code == "output_too_large"


def running(step: Step) -> int:
    return int(
        step.value(
            "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()"
            " and state = 'active'"
        )
    )


def gone(step: Step) -> bool:
    deadline = time.monotonic() + 5
    while running(step) and time.monotonic() < deadline:
        pass
    return running(step) == 0


def test_a_timeout_stops_the_statement_on_the_server(step: Step) -> None:
    assert step.fails("select pg_sleep(60)", timeout=0.5).code == "timeout"
    assert gone(step)


def test_a_step_may_have_months(step: Step) -> None:
    """Longer than the server's own timeout can be."""
    assert step.value("select 1", timeout=100 * 86400) == 1


@pytest.mark.parametrize("arguments", [{}, {"rows_to": "file"}])
def test_wide_rows_do_not_fill_the_workers_memory(step: Step, arguments: dict[str, str]) -> None:
    sql = "select repeat('x', 30000000) from generate_series(1, 100)"
    peak = peak_of(lambda: step.fails(sql, timeout=60, **arguments))
    assert peak < 600_000_000
    failure = step.fails(sql, timeout=60, **arguments)
    assert failure.code == "output_too_large" and "select less" in str(failure)
    assert step.value("select 1") == 1


def test_cancel_stops_the_statement_on_the_server(step: Step, socket_folder: str) -> None:
    other = Step(socket_folder, step.data_dir)
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
