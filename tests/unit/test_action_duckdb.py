"""The duckdb kind on real databases: results, confinement, bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.actions.duckdb import DuckdbAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readable")
    (folder / "cities.csv").write_text("name,people\nBern,134794\n")
    (folder / "linked").mkdir()
    (folder / "linked" / "way-out").symlink_to("/etc")
    (folder / "linked" / "way-in").symlink_to(folder / "cities.csv")
    return folder


@pytest.fixture(scope="module")
def action(readable: Path) -> Iterator[DuckdbAction]:
    action = DuckdbAction([readable])
    yield action
    action.close()


class Step:
    def __init__(self, action: DuckdbAction, data_dir: Path) -> None:
        self.action, self.data_dir, self.cancelled = action, data_dir, threading.Event()
        self.credentials: dict[str, Credential] = {}

    def run(
        self,
        sql: str | list[str],
        *,
        timeout: float = 30,
        execution: str = "e1",
        node: str = "s",
        with_: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Any:
        given = {"query": sql, **arguments}
        node_id = f"{execution}:{node}"
        request = ActionRequest("duckdb", given, with_ or {}, execution, node_id, "s", 1, node_id, timeout)
        context = Lent(self.data_dir, self.cancelled, self.credentials.__getitem__)
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
        "summarize select 1 a",
        "call range(2)",
        "from range(2)",
        "create table p as select 'x' k, 1 v; pivot p on k using sum(v)",
        "create table u as select 1 a; update u set a = 2 returning a",
        "create table d as select 1 a; delete from d returning *",
        "prepare q as select 1 a; execute q",
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
    assert failure.code in ("sql_error", "sql_refused")
    assert "root:" not in str(failure) + str(failure.data)
    assert not Path("/tmp/noetl-test-escape.csv").exists() and not Path("/tmp/noetl-test-escape.db").exists()


@pytest.mark.parametrize("database", ["../out.db", "/etc/out.db", ".", "a/../../out.db"])
def test_the_database_stays_in_the_data_folder(step: Step, database: str) -> None:
    assert step.fails("select 1", database=database).code == "path_not_allowed"


def test_other_databases(step: Step) -> None:
    assert step.run("create table t as select 1 a", database="shared/x.db")
    assert (step.data_dir / "databases" / "shared" / "x.db").exists()
    assert step.run("select 1 a", database=":memory:")["command_0"]["rows"] == [{"a": 1}]


def test_named_files_can_be_read(step: Step, readable: Path) -> None:
    path = readable / "cities.csv"
    assert step.fails(f"from '{path}'").code == "sql_error"
    for named in ("cities.csv", str(path)):
        assert step.run(f"from '{path}'", read=[named])["command_0"]["rows"][0]["name"] == "Bern"


def test_named_folders_can_be_read(step: Step, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "deep").mkdir()
    (folder / "deep" / "a.csv").write_text("n\n1\n")
    (folder / "b.csv").symlink_to(folder / "deep" / "a.csv")
    action = DuckdbAction([folder])
    try:
        own = Step(action, step.data_dir)
        for named in (".", str(folder)):
            assert own.run(f"from '{folder}/deep/*.csv'", read=[named])["command_0"]["rows"] == [{"n": 1}]
            assert own.run(f"from '{folder}/b.csv'", read=[named])["command_0"]["rows"] == [{"n": 1}]
    finally:
        action.close()


OUTSIDE = ["/etc", "/etc/passwd", "../..", "linked/way-out", "linked/way-out/passwd", "linked", ".", "missing.csv"]


@pytest.mark.parametrize("named", [*OUTSIDE, "secrets.json", "duckdb/e2.duckdb", "../../secrets.json", "files/e2"])
def test_other_files_cannot_be_named(step: Step, named: str) -> None:
    for own in ("secrets.json", "duckdb/e2.duckdb", "files/e2/x"):
        (step.data_dir / own).parent.mkdir(parents=True, exist_ok=True)
        (step.data_dir / own).touch()
    assert step.fails("select 1", read=[named]).code == "path_not_allowed"


def test_an_execution_may_write_in_its_own_folder(step: Step) -> None:
    assert step.run("copy (select 5 a) to 'x.csv'; from 'x.csv'")["command_1"]["rows"] == [{"a": 5}]
    assert (step.data_dir / "files" / "e1" / "x.csv").exists()
    assert step.fails(f"from '{step.data_dir}/files/e1/x.csv'", execution="e2").code == "sql_error"


def test_rows_past_the_bound_are_left_in_a_file(step: Step) -> None:
    assert "rows" in step.run("from range(10_000)")["command_0"]
    result = step.run("from range(10_001) t(n); select repeat('x', 1_000_000) x from range(11)")
    many, wide = result["command_0"], result["command_1"]
    assert many == {
        "status": "success",
        "path": "rows/s.1/command_0.parquet",
        "row_count": 10_001,
        "columns": ["n"],
        "bytes": (step.data_dir / "files/e1/rows/s.1/command_0.parquet").stat().st_size,
    }
    assert wide["row_count"] == 11 and "rows" not in wide
    assert step.run(f"select sum(n)::int s from '{many['path']}'")["command_0"]["rows"] == [{"s": 50_005_000}]


def test_every_place_has_rows_of_its_own(step: Step) -> None:
    told = [step.run("from range(3)", rows_to="parquet", node=node)["command_0"] for node in ("a_2", "a#2", "a:2")]
    assert len({rows["path"] for rows in told}) == 3


def test_a_query_that_runs_again_for_its_file_has_effect_once(step: Step) -> None:
    step.run("create sequence s; create table seen (n int)")
    [_, result] = step.run("insert into seen values (1); select nextval('s') n from range(10_001)").values()
    assert step.run(f"select count(distinct n) c from '{result['path']}'")["command_0"]["rows"] == [{"c": 10_001}]


def test_rows_of_what_is_no_query_stay_bounded(step: Step) -> None:
    failure = step.fails("create table r (a int); insert into r from range(10_001) returning a")
    assert failure.code == "output_too_large" and "write them to a table" in str(failure)
    failure = step.fails("begin; from range(10_001)")
    assert failure.code == "output_too_large"


def test_rows_go_to_a_file_when_asked(step: Step) -> None:
    result = step.run(
        "select $a a, 'x' \"b c\"; describe select 1; from range(3) -- all of them", rows_to="parquet", params={"a": 7}
    )
    assert result["command_0"]["columns"] == ["a", "b c"] and result["command_0"]["row_count"] == 1
    assert "rows" in result["command_1"]
    assert result["command_2"]["path"].endswith("command_2.parquet")
    pivot = "create table p as select 'x' k, 1 v; pivot p on k using sum(v)"
    assert step.run(pivot, rows_to="parquet")["command_1"]["columns"] == ["x"]


def test_a_step_that_fails_leaves_no_rows_behind(step: Step) -> None:
    step.fails("from range(100_000_000_000)", rows_to="parquet", timeout=0.5)
    assert not (step.data_dir / "files/e1/rows/s.1").exists()
    assert not list((step.data_dir / "tmp").iterdir())


def test_inputs_are_tables_and_parameters(step: Step) -> None:
    orders = [{"id": 1, "on": "2026-01-02", "total": 2}, {"id": 2, "total": 2.5, "tags": ["a"]}]
    inputs = {"orders": orders, "least": 2.2, "ids": [1, 2]}
    result = step.run('select id, "on", tags from orders where total > $least and id in $ids', inputs=inputs)
    assert result["command_0"]["rows"] == [{"id": 2, "on": None, "tags": ["a"]}]
    types = step.run("select column_type t from (describe orders)", inputs=inputs)["command_0"]["rows"]
    assert [row["t"] for row in types] == ["BIGINT", "DATE", "DOUBLE", "VARCHAR[]"]


def test_a_file_of_rows_is_a_table_for_the_next_step(step: Step) -> None:
    result = step.run("from range(20_000) t(n)")["command_0"]
    assert step.run("select max(n) m from big", inputs={"big": result})["command_0"]["rows"] == [{"m": 19_999}]
    assert step.fails("from big", inputs={"big": result}, execution="e2").code == "path_not_allowed"
    for path in ("../e2/rows/s.1/command_0.parquet", "/etc/passwd", "rows"):
        assert step.fails("from big", inputs={"big": {**result, "path": path}}).code == "path_not_allowed"


def test_an_empty_list_is_a_table_without_rows(step: Step) -> None:
    result = step.run("select count(*) n from orders", inputs={"orders": []})
    assert result["command_0"]["rows"] == [{"n": 0}]
    assert step.run("select count(*) n from t", inputs={"t": [{}, {}]})["command_0"]["row_count"] == 1


def test_a_table_hides_one_of_its_name_for_the_step_alone(step: Step) -> None:
    step.run("create table t as select 1 a")
    assert step.run("from t", inputs={"t": [{"b": 2}]})["command_0"]["rows"] == [{"b": 2}]
    assert step.run("from t")["command_0"]["rows"] == [{"a": 1}]


@pytest.mark.parametrize("name", ["a b", "", "x;y", '"'])
def test_names_of_tables_are_plain(step: Step, name: str) -> None:
    assert step.fails("select 1", inputs={name: [{"a": 1}]}).code == "arguments_invalid"


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
