"""The duckdb kind on real databases: results, confinement, bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executors.actions.duckdb import DuckdbAction
from executors.contract import ActionFailed, ActionRequest


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readable")
    (folder / "cities.csv").write_text("name,people\nBern,134794\n")
    (folder / "way-out").symlink_to("/etc")
    return folder


@pytest.fixture(scope="module")
def action(readable: Path) -> Iterator[DuckdbAction]:
    action = DuckdbAction([readable])
    yield action
    action.close()


class Step:
    def __init__(self, action: DuckdbAction, data_dir: Path) -> None:
        self.action, self.data_dir, self.cancelled = action, data_dir, threading.Event()

    def run(self, sql: str | list[str], *, timeout: float = 30, execution: str = "e1", **arguments: Any) -> Any:
        given = {"query": sql, **arguments}
        request = ActionRequest("duckdb", given, {}, execution, "e1:s", "s", 1, "e1:s", timeout)
        context = SimpleNamespace(data_dir=self.data_dir, cancelled=self.cancelled, credential=None)
        return self.action.run(request, context)

    def fails(self, sql: str | list[str], **arguments: Any) -> ActionFailed:
        with pytest.raises(ActionFailed) as caught:
            self.run(sql, **arguments)
        return caught.value


@pytest.fixture
def step(action: DuckdbAction, tmp_path: Path) -> Step:
    return Step(action, tmp_path)


def test_rows_counts_and_messages(step: Step) -> None:
    result = step.run(["create table t (a int); insert into t values (1), (2)", "from t order by a; delete from t"])
    assert result["command_0"] == {"status": "success", "row_count": 0, "message": "CREATE"}
    assert result["command_1"]["row_count"] == 2 and "rows" not in result["command_1"]
    assert result["command_2"] == {
        "status": "success",
        "rows": [{"a": 1}, {"a": 2}],
        "row_count": 2,
        "columns": ["a"],
    }
    assert result["command_3"]["row_count"] == 2


@pytest.mark.parametrize(
    "sql",
    [
        "with q as (select 1) from q",
        "describe select 1",
        "show tables",
        "values (1)",
        "explain select 1",
        "create table r (a int); insert into r values (1) returning a",
        "pragma version",
    ],
)
def test_every_kind_of_statement_gives_its_rows(step: Step, sql: str) -> None:
    *_, last = step.run(sql).values()
    assert "rows" in last and last["columns"]


def test_values_become_json(step: Step) -> None:
    sql = "select 1.50::decimal(5,2) d, '2020-01-01 00:00:00+02'::timestamptz t, 'a'::blob b, {'x': [1]} s, 1 d"
    assert step.run(sql)["command_0"]["rows"] == [
        {"d": 1.5, "t": "2019-12-31T22:00:00+00:00", "b": "YQ==", "s": {"x": [1]}, "d_2": 1}
    ]


def test_steps_of_an_execution_share_a_file_and_others_do_not(step: Step) -> None:
    step.run("create table t as select 7 a")
    assert step.run("from t")["command_0"]["rows"] == [{"a": 7}]
    assert step.fails("from t", execution="e2").code == "sql_error"
    assert (step.data_dir / "duckdb" / "e1.duckdb").exists()


def test_params_are_bound_by_name(step: Step) -> None:
    result = step.run("select $a a; select 1 b", params={"a": "x'; drop table t", "unused": 1})
    assert result["command_0"]["rows"] == [{"a": "x'; drop table t"}]
    assert step.fails("select $missing").code == "sql_error"


def test_semicolons_in_literals_do_not_split(step: Step) -> None:
    assert step.run("select 'a;b' x -- c;d\n; select 2 y").keys() == {"command_0", "command_1"}


def test_stops_at_the_first_error_and_keeps_what_there_was(step: Step) -> None:
    failure = step.fails("select 1 a; select nope; create table after (a int)")
    assert failure.code == "sql_error" and str(failure).startswith("command_1: ")
    assert failure.data["command_0"]["rows"] == [{"a": 1}] and failure.data["command_1"]["status"] == "error"
    assert step.fails("from after").code == "sql_error"


def test_goes_on_after_an_error_when_told_to(step: Step) -> None:
    failure = step.fails("select 1 a; select nope; select nada; select 4 a", on_statement_error="continue")
    assert failure.code == "sql_error"
    first, second = str(failure).split("; command_2: ")
    assert first.startswith("command_1: ") and "nada" in second
    assert [failure.data[f"command_{n}"]["status"] for n in range(4)] == ["success", "error", "error", "success"]
    assert failure.data["command_3"]["rows"] == [{"a": 4}]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/passwd')",
        "from '/etc/passwd'",
        "select * from glob('/etc/*')",
        "copy (select 1) to '/tmp/noetl-test-escape.csv'",
        "attach '/tmp/noetl-test-escape.db'",
        "export database '/tmp/noetl-test-escape'",
        "select * from read_text('../../../../../../../../etc/passwd')",
        "select * from read_text('http://127.0.0.1:1/x')",
        "install spatial",
        "install postgres",
        "load postgres_scanner",
        "load '/tmp/x.duckdb_extension'",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "set lock_configuration = false",
        "set memory_limit = '100GB'",
        "select * from payload",
        "create persistent secret s (type http)",
        "load httpfs; select * from read_text('http://127.0.0.1:1/x')",
    ],
)
def test_sql_cannot_leave_its_place(step: Step, sql: str) -> None:
    failure = step.fails(sql)
    assert failure.code == "sql_error"
    assert "root:" not in str(failure) + str(failure.data)
    assert not Path("/tmp/noetl-test-escape.csv").exists() and not Path("/tmp/noetl-test-escape.db").exists()


@pytest.mark.parametrize("database", ["../out.db", "/etc/out.db", ".", "a/../../out.db"])
def test_the_database_stays_in_the_data_folder(step: Step, database: str) -> None:
    assert step.fails("select 1", database=database).code == "path_not_allowed"


def test_other_databases(step: Step) -> None:
    assert step.run("create table t as select 1 a", database="shared/x.db")
    assert (step.data_dir / "shared" / "x.db").exists()
    assert step.run("select 1 a", database=":memory:")["command_0"]["rows"] == [{"a": 1}]


def test_named_files_can_be_read(step: Step, readable: Path) -> None:
    path = readable / "cities.csv"
    assert step.fails(f"from '{path}'").code == "sql_error"
    for named in ("cities.csv", str(path), str(readable), "."):
        assert step.run(f"from '{path}'", read=[named])["command_0"]["rows"][0]["name"] == "Bern"


@pytest.mark.parametrize("named", ["/etc", "/etc/passwd", "../..", "way-out", "way-out/passwd", "missing.csv"])
def test_other_files_cannot_be_named(step: Step, named: str) -> None:
    assert step.fails("select 1", read=[named]).code == "path_not_allowed"


def test_an_execution_may_write_in_its_own_folder(step: Step) -> None:
    assert step.run("copy (select 5 a) to 'x.csv'; from 'x.csv'")["command_1"]["rows"] == [{"a": 5}]
    assert (step.data_dir / "files" / "e1" / "x.csv").exists()
    assert step.fails(f"from '{step.data_dir}/files/e1/x.csv'", execution="e2").code == "sql_error"


def test_rows_and_bytes_are_bounded(step: Step) -> None:
    assert step.run("from range(10_000)")["command_0"]["row_count"] == 10_000
    assert step.fails("from range(10_001)").code == "output_too_large"
    failure = step.fails("select repeat('x', 1_000_000) from range(11)")
    assert failure.code == "output_too_large" and "write them to a table" in str(failure)


def test_not_a_number_is_an_error_and_not_an_exception(step: Step) -> None:
    assert step.fails("select 'nan'::double a").code == "output_invalid"


def test_a_long_statement_is_killed_and_the_file_stays_usable(step: Step) -> None:
    step.run("create table t as select 1 a")
    started = time.monotonic()
    assert step.fails("select count(*) from range(10000000000) a, range(1000) b", timeout=0.5).code == "timeout"
    assert time.monotonic() - started < 5
    assert step.run("from t")["command_0"]["rows"] == [{"a": 1}]


def test_steps_on_one_file_take_turns(step: Step) -> None:
    step.run("create table t (a int)")
    threads = [threading.Thread(target=step.run, args=(f"insert into t values ({n})",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert step.run("select count(*) n from t")["command_0"]["rows"] == [{"n": 4}]


@pytest.mark.parametrize("arguments", [{"command": "select 2"}, {"params": []}, {"nope": 1}])
def test_arguments_are_checked(step: Step, arguments: dict[str, Any]) -> None:
    assert step.fails("select 1", **arguments).code == "arguments_invalid"
