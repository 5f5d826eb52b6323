"""The storage `duckdb`: which files it writes, what its statements may do, and values in its columns."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import duckdb
import pytest

from catalog.api import validate_text
from executors.local import LocalRun
from tests.support.database_steps import step_socket
from tests.support.kinds import kinds
from tests.support.saves import LOOP, Saves, written


@pytest.fixture
def saves(tmp_path: Path) -> Iterator[Saves]:
    saves = Saves("duckdb", step_socket(), tmp_path)
    with saves.duckdb() as file:
        file.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR)")
    yield saves
    saves.action.close()


VALUES: list[tuple[str, list[Any], list[str | None]]] = [
    ("INT", [1, "2", None], ["1", "2", None]),
    ("DOUBLE", [1, 2.5, None], ["1.0", "2.5", None]),
    ("VARCHAR", ["a", 1, True, None], ["a", "1", "true", None]),
    ("VARCHAR", [{"a": 1}, ["b"], "c"], ['{"a":1}', '["b"]', "c"]),
    ("JSON", [{"a": [1]}, [1, "b"], None], ['{"a":[1]}', '[1,"b"]', None]),
    ("INT[]", [[1, 2], None], ["[1, 2]", None]),
    ("TIMESTAMP", ["2024-02-29T12:00:00", None], ["2024-02-29 12:00:00", None]),
    ("DATE", ["2024-02-29"], ["2024-02-29"]),
    ("BOOLEAN", [True, False, None], ["true", "false", None]),
    ("BIGINT", [9007199254740993], ["9007199254740993"]),
    ("INT", [None, None], [None, None]),
    ("BIGINT", [9007199254740993, 1.0], ["9007199254740993", "1"]),
    ("DECIMAL(38,18)", [1234567, 0.5], ["1234567.000000000000000000", "0.500000000000000000"]),
    ("DECIMAL(38,18)", [1234567.1, 0.5], ["1234567.100000000000000000", "0.500000000000000000"]),
    ("VARCHAR", [1, 2.5, True], ["1", "2.5", "true"]),
    ("JSON", [1, 2.5, True, "7"], ["1", "2.5", "true", "7"]),
]


@pytest.mark.parametrize(("kind", "given", "stored"), VALUES)
def test_json_lands_in_the_columns_type(saves: Saves, kind: str, given: list[Any], stored: list[Any]) -> None:
    with saves.duckdb() as file:
        file.execute(f"CREATE TABLE u (n INT, v {kind})")
    saves.run([{"n": number, "v": value} for number, value in enumerate(given)], table="u")
    assert saves.sql("SELECT v::VARCHAR FROM u ORDER BY n") == [(value,) for value in stored]


@pytest.mark.parametrize("mode", ["update", "upsert"])
def test_keys_of_several_types_find_their_rows(saves: Saves, mode: str) -> None:
    with saves.duckdb() as file:
        file.execute("CREATE TABLE u (k BIGINT PRIMARY KEY, v VARCHAR)")
        file.execute("INSERT INTO u VALUES (1, 'old'), (9007199254740992, 'other'), (9007199254740993, 'old')")
    saves.run([{"k": 9007199254740993, "v": 1}, {"k": 1.0, "v": 2.5}], table="u", mode=mode, key="k")
    assert saves.sql("SELECT * FROM u ORDER BY k") == [(1, "2.5"), (9007199254740992, "other"), (9007199254740993, "1")]


def test_a_file_of_the_databases(saves: Saves) -> None:
    with saves.duckdb("shop.duckdb") as file:
        file.execute("CREATE SCHEMA raw; CREATE TABLE raw.t (id INT)")
    told = saves.run([{"id": 1}], table="raw.t", spec={"database": "shop.duckdb"})
    assert told == written("duckdb", 1, "raw.t")
    with saves.duckdb("shop.duckdb") as file:
        assert file.execute("SELECT * FROM raw.t").fetchall() == [(1,)]
    assert saves.sql("SELECT count(*) FROM t") == [(0,)]


FILES: list[tuple[Any, str]] = [
    ("../duckdb/e2.duckdb", "path_not_allowed"),
    ("/etc/passwd", "path_not_allowed"),
    ("link.duckdb", "path_not_allowed"),
    ("a\x00b", "path_not_allowed"),
    ("", "path_not_allowed"),
    ("nowhere.duckdb", "target_failed"),
    ("text.duckdb", "database_unreadable"),
    (":memory:", "arguments_invalid"),
    (7, "arguments_invalid"),
]


@pytest.mark.parametrize(("named", "code"), FILES)
def test_no_other_file_is_written(saves: Saves, named: Any, code: str) -> None:
    folder = saves.data_dir / "databases"
    with duckdb.connect(str(saves.data_dir / "duckdb" / "e2.duckdb")) as other:
        other.execute("CREATE TABLE t (id INT)")
    (folder / "link.duckdb").symlink_to(saves.data_dir / "duckdb" / "e2.duckdb")
    (folder / "text.duckdb").write_text("no database, but long enough to be looked at" * 100)
    before = sorted(path.name for path in folder.iterdir())
    assert saves.fails([{"id": 1}], table="t", spec={"database": named}).code == code
    assert sorted(path.name for path in folder.iterdir()) == before
    with duckdb.connect(str(saves.data_dir / "duckdb" / "e2.duckdb")) as other:
        assert other.execute("SELECT count(*) FROM t").fetchall() == [(0,)]


FUNCTIONS = ["arrow_scan(0, 0, 0)", "query('SELECT 1')", "sqlite_scan('a.db', 't')", '"pandas_scan"(0)']


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_that_no_step_may_call_are_refused(saves: Saves, function: str) -> None:
    failure = saves.fails(statement=f"INSERT INTO t (id) SELECT 1 FROM {function}")
    assert failure.code == "sql_refused" and "not possible in a step" in str(failure)


def test_a_macro_of_the_file_does_not_hide_one(saves: Saves) -> None:
    with saves.duckdb() as file:
        file.execute("CREATE MACRO harmless() AS TABLE SELECT 1 AS id FROM query('SELECT 1')")
    assert saves.fails(statement="INSERT INTO t (id) SELECT id FROM harmless()").code == "sql_refused"
    assert saves.run([{"id": 1}], table="t", node="other") == written("duckdb", 1)


@contextmanager
def held(path: Path) -> Iterator[IO[str]]:
    """A process that holds a file until what comes is closed."""
    holding = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        yield holder.stdin


def test_a_file_that_another_process_holds_is_waited_for(saves: Saves) -> None:
    with held(saves.data_dir / "duckdb" / "e1.duckdb") as holder:
        assert saves.fails([{"id": 2}], table="t", timeout=1).code == "database_locked"
        letting_go = threading.Timer(0.3, holder.close)
        letting_go.start()
        assert saves.run([{"id": 2}], table="t") == written("duckdb", 1)
        letting_go.join()


def test_who_is_cancelled_while_waiting_for_a_file_is_cancelled(saves: Saves) -> None:
    with held(saves.data_dir / "duckdb" / "e1.duckdb"):
        cancelling = threading.Timer(0.3, saves.cancelled.set)
        cancelling.start()
        assert saves.fails([{"id": 2}], table="t").code == "cancelled"
        cancelling.join()


def test_a_word_in_the_path_is_no_lock(saves: Saves) -> None:
    folder = saves.data_dir / "databases" / "Could not set lock on file"
    folder.mkdir()
    (folder / "block.duckdb").write_text("no database, but long enough to be looked at" * 100)
    spec = {"database": "Could not set lock on file/block.duckdb"}
    assert saves.fails([{"id": 1}], table="t", spec=spec, timeout=2).code == "database_unreadable"


STATEMENTS = [
    ("SELECT 1", "sql_refused"),
    ("CREATE TABLE more (id INT)", "sql_refused"),
    ("DROP TABLE t", "sql_refused"),
    ("ATTACH 'other.duckdb'", "sql_refused"),
    ("COPY t TO 'out.csv'", "sql_refused"),
    ("INSTALL httpfs", "sql_refused"),
    ("SET memory_limit = '1GB'", "sql_refused"),
    ("PRAGMA database_list", "sql_refused"),
    ("INSERT INTO t SELECT 1, content FROM read_text('/etc/passwd')", "target_failed"),
    ("INSERT INTO t SELECT 1, * FROM read_csv('https://example.com/a.csv')", "target_failed"),
    ("INSERT INTO t SELECT 1, * FROM '/etc/passwd'", "target_failed"),
]


@pytest.mark.parametrize(("statement", "code"), STATEMENTS)
def test_a_statement_changes_rows_and_nothing_else(saves: Saves, statement: str, code: str) -> None:
    assert saves.fails(statement=statement).code == code
    assert saves.sql("SELECT table_name FROM duckdb_tables() WHERE table_name <> 'noetl_progress'") == [("t",)]
    assert saves.sql("SELECT count(*) FROM t") == [(0,)]


def test_a_save_per_item_in_a_loop_of_a_thousand_is_batched(saves: Saves) -> None:
    with saves.duckdb("many.duckdb") as file:
        file.execute("CREATE TABLE t (id INT)")
    playbook, problems = validate_text(
        LOOP % 'storage: duckdb, spec: {database: many.duckdb}, table: t, data: {id: "{{ n }}"}'
    )
    assert playbook is not None, problems
    own = {**kinds(lambda request, context: None), "save": saves.action}
    run = LocalRun(playbook, {}, kinds=own, data_dir=saves.data_dir)
    run.run()
    assert (run.root.engine.status, run.root.engine.error) == ("completed", None)
    with saves.duckdb("many.duckdb") as file:
        assert file.execute("SELECT count(*), sum(id) FROM t").fetchall() == [(1000, 499500)]
        assert file.execute("SELECT count(*) FROM noetl_progress").fetchall() == [(10,)]
