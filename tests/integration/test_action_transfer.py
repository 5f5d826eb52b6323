"""Transfers between real stores: Postgres, DuckDB, SQLite and files."""

from __future__ import annotations

import json
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from executors.contract import ActionFailed, Credential
from executors.stores.postgres_target import ForbiddenTarget
from tests.support.answering import Answer, Asked, answering
from tests.support.database_steps import ROLE, step_socket
from tests.support.inspection import wait_for
from tests.support.proxies import POSTGRES_SOCKET, Connection, Proxy
from tests.support.transfers import Transfers

PEOPLE = [(1, "Ada", Decimal("0.1000000000000000000001")), (2, "O'Neil", None), (3, 'Zoë "z"\n', Decimal(7))]
FROM_PEOPLE = {"type": "postgres", "table": "people"}


@pytest.fixture
def transfers(tmp_path: Path) -> Iterator[Transfers]:
    found = Transfers(step_socket(), tmp_path)
    with found.postgres() as connection:
        connection.execute(b"DROP TABLE IF EXISTS people, copied, noetl_progress")
        connection.execute(b"CREATE TABLE people (id int PRIMARY KEY, name text, part numeric)")
        connection.execute(b"CREATE TABLE copied (id int PRIMARY KEY, name text NOT NULL, part numeric)")
        connection.cursor().executemany(b"INSERT INTO people VALUES (%s, %s, %s)", PEOPLE)
    yield found
    with found.postgres() as connection:
        connection.execute(b"DROP TABLE IF EXISTS people, copied, noetl_progress")


def test_rows_of_postgres_arrive_in_postgres_with_every_digit(transfers: Transfers) -> None:
    told = transfers.run(FROM_PEOPLE, {"type": "postgres", "table": "public.copied"}, chunk_size=2)
    assert told["rows"] == 3 and told["chunks"] == 2 and told["resumed_from"] is None and told["seconds"] >= 0
    assert transfers.rows("SELECT * FROM copied ORDER BY id") == PEOPLE


def test_a_query_is_bound_and_the_mapping_names_columns(transfers: Transfers) -> None:
    told = transfers.run(
        {"type": "postgres"},
        {"type": "postgres", "table": "copied"},
        query="SELECT id AS n, name, '100%' AS more FROM people WHERE name = :name -- all",
        params={"name": "O'Neil"},
        mapping={"id": "n", "name": "name"},
    )
    assert told["rows"] == 1
    assert transfers.rows("SELECT id, name FROM copied") == [(2, "O'Neil")]


def test_modes_of_postgres(transfers: Transfers) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"INSERT INTO copied VALUES (1, 'old', 5), (9, 'nine', 9)")
    update = {"type": "postgres", "table": "copied", "mode": "update", "key": "id"}
    transfers.run(FROM_PEOPLE, update, mapping=["id", "part"], node="update")
    assert transfers.rows("SELECT * FROM copied ORDER BY id") == [(1, "old", PEOPLE[0][2]), (9, "nine", 9)]
    for node in ("upsert", "again"):
        transfers.run(FROM_PEOPLE, {**update, "mode": "upsert"}, node=node)
        assert transfers.rows("SELECT * FROM copied ORDER BY id") == [*PEOPLE, (9, "nine", 9)]
    transfers.run(FROM_PEOPLE, {"type": "postgres", "table": "copied", "mode": "overwrite"}, node="over")
    assert transfers.rows("SELECT * FROM copied ORDER BY id") == PEOPLE


def test_an_upsert_keeps_the_last_of_rows_with_one_key(transfers: Transfers) -> None:
    rows = [{"id": 1, "name": "first"}, {"id": 1, "name": "last"}]
    (transfers.files / "rows.json").write_text(json.dumps(rows))
    target = {"type": "postgres", "table": "copied", "mode": "upsert", "key": ["id"]}
    assert transfers.run({"type": "file", "path": "rows.json"}, target)["rows"] == 2
    assert transfers.rows("SELECT id, name FROM copied") == [(1, "last")]


def test_without_a_key_a_table_gets_all_or_nothing(transfers: Transfers) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"INSERT INTO people VALUES (4, NULL, 1)")
    target = {"type": "postgres", "table": "copied"}
    failure = transfers.fails(FROM_PEOPLE, target, chunk_size=1)
    assert failure.code == "target_failed" and "null value" in str(failure)
    assert transfers.rows("SELECT count(*) FROM copied") == [(0,)]


def test_with_a_key_a_repeated_attempt_goes_on_behind_the_last_chunk(transfers: Transfers) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"INSERT INTO people VALUES (4, NULL, 1)")
    target = {"type": "postgres", "table": "copied", "mode": "overwrite"}
    assert transfers.fails(FROM_PEOPLE, target, key="id", chunk_size=1).code == "target_failed"
    assert transfers.rows("SELECT id FROM copied ORDER BY id") == [(1,), (2,), (3,)]
    with transfers.postgres() as connection:
        connection.execute(b"UPDATE people SET name = 'four' WHERE id = 4")
    told = transfers.run(FROM_PEOPLE, target, key="id", chunk_size=1)
    assert (told["rows"], told["chunks"], told["resumed_from"]) == (4, 4, 3)
    assert transfers.rows("SELECT id FROM copied ORDER BY id") == [(1,), (2,), (3,), (4,)]
    # It was over: an attempt that was not heard of writes nothing, and tells the same.
    assert transfers.run(FROM_PEOPLE, target, key="id", chunk_size=1)["rows"] == 4
    assert transfers.rows("SELECT count(*) FROM copied") == [(4,)]


@pytest.mark.parametrize("kind", ["postgres", "duckdb", "sqlite"])
def test_an_attempt_that_was_overtaken_writes_nothing_more(transfers: Transfers, kind: str) -> None:
    """The first one waits for a page while the second does all of it."""
    target = make_target(transfers, kind)
    rows = [{"id": n, "name": "x", "part": None} for n in range(4)]
    is_first, overtaken = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Answer:
        page = int(asked.said.get("page", "0"))
        if page == 1 and not is_first.is_set():
            is_first.set()
            overtaken.wait(30)
        return Answer({"rows": rows[2 * page : 2 * page + 2], "next": None if page else "?page=1"})

    failures: list[ActionFailed] = []
    with answering(answer) as server:
        source = {"type": "http", "url": f"{server.url}/rows", "path": "rows", "next_path": "next"}
        thread = threading.Thread(target=lambda: failures.append(transfers.fails(source, target, key="id")))
        thread.start()
        assert is_first.wait(30)
        assert transfers.run(source, target, key="id")["resumed_from"] == 1
        overtaken.set()
        thread.join(30)
    assert [failure.code for failure in failures] == ["transfer_overtaken"]
    assert read_target(transfers, kind) == [(n, "x", None) for n in range(4)]


def test_of_two_that_overwrite_at_once_one_leaves_its_rows(transfers: Transfers) -> None:
    """The first one waits for a page while the second begins."""
    (transfers.files / "second.json").write_text(json.dumps([{"id": n, "name": "second"} for n in range(10, 14)]))
    target = {"type": "postgres", "table": "copied", "mode": "overwrite"}
    has_begun, goes_on, done = threading.Event(), threading.Event(), list[str]()

    def answer(asked: Asked) -> Answer:
        page = int(asked.said.get("page", "0"))
        if page == 1:
            has_begun.set()
            goes_on.wait(30)
        rows = [{"id": n, "name": "first"} for n in (2 * page, 2 * page + 1)]
        return Answer({"rows": rows, "next": None if page else "?page=1"})

    def run(source: dict[str, Any], node: str) -> None:
        transfers.run(source, target, node=node)
        done.append(node)

    with answering(answer) as server:
        pages = {"type": "http", "url": f"{server.url}/rows", "path": "rows", "next_path": "next"}
        first = threading.Thread(target=run, args=(pages, "first"))
        first.start()
        assert has_begun.wait(30)
        second = threading.Thread(target=run, args=({"type": "file", "path": "second.json"}, "second"))
        second.start()
        waiting = "SELECT 1 FROM pg_locks WHERE relation = 'copied'::regclass AND NOT granted"
        wait_for(lambda: done or transfers.rows(waiting))
        goes_on.set()
        first.join(30)
        second.join(30)
    assert done == ["first", "second"]
    assert transfers.rows("SELECT id FROM copied ORDER BY id") == [(10,), (11,), (12,), (13,)]


class FallingSilent(Proxy):
    """Passes nothing on any more, either way, once it `is_silent`, until it is `over`."""

    def __init__(self, folder: Path) -> None:
        self.is_silent, self.over = threading.Event(), threading.Event()
        super().__init__(folder / POSTGRES_SOCKET, Path(step_socket()) / POSTGRES_SOCKET)

    def connection(self, client: socket.socket, server: socket.socket) -> Connection:
        return SilentConnection(client, server, self)


class SilentConnection(Connection):
    """One connection through it."""

    def __init__(self, client: socket.socket, server: socket.socket, proxy: FallingSilent) -> None:
        super().__init__(client, server)
        self._proxy = proxy

    def from_client(self, data: bytes) -> bytes:
        if self._proxy.is_silent.is_set():
            self._proxy.over.wait()
        return data

    from_server = from_client


def test_a_server_that_is_gone_does_not_keep_a_transfer(transfers: Transfers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        proxy = FallingSilent(Path(folder))
        far = {**transfers.credentials["pg"].data, "db_host": folder}
        transfers.credentials["far"] = Credential("far", "postgres", far)

        def answer(asked: Asked) -> Answer:
            proxy.is_silent.set()
            return Answer([{"id": 1, "name": "a"}])

        try:
            with answering(answer) as server:
                source, target = {"type": "http", "url": server.url}, {"type": "postgres", "table": "copied"}
                begun = time.monotonic()
                assert transfers.fails(source, target, auth={"writing": "far"}, timeout=2).code == "timeout"
                assert time.monotonic() - begun < 20
        finally:
            proxy.over.set()
            proxy.close()
    assert transfers.rows("SELECT count(*) FROM copied") == [(0,)]


def test_the_server_knows_when_the_steps_time_is_over(transfers: Transfers) -> None:
    query = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
    transfers.run({"type": "postgres"}, {"type": "file", "path": "a.json"}, query=query, timeout=60)
    [row] = json.loads((transfers.files / "a.json").read_text())
    assert 30_000 < int(row["setting"]) <= 62_000


def make_target(transfers: Transfers, kind: str) -> dict[str, Any]:
    create = "CREATE TABLE copied (id INTEGER PRIMARY KEY, name TEXT, part DOUBLE PRECISION)"
    if kind == "duckdb":
        with transfers.duckdb() as connection:
            connection.execute(create)
        return {"type": "duckdb", "table": "copied"}
    if kind == "sqlite":
        with closing(sqlite3.connect(transfers.files / "a.db")) as file:
            file.execute(create)
        return {"type": "sqlite", "path": "a.db", "table": "copied"}
    return {"type": "postgres", "table": "copied"}


def read_target(transfers: Transfers, kind: str) -> list[tuple[Any, ...]]:
    query = "SELECT id, name, part FROM copied ORDER BY id"
    if kind == "duckdb":
        with transfers.duckdb() as connection:
            return connection.execute(query).fetchall()
    if kind == "sqlite":
        with closing(sqlite3.connect(transfers.files / "a.db")) as file:
            return file.execute(query).fetchall()
    return transfers.rows(query)


POSTGRES_TO_DUCKDB: list[tuple[str, list[str], str, list[str | None]]] = [
    ("numeric", ["1.5", "100000000000000000000000000", "0.00000001"], "DECIMAL(38,8)",
        ["1.50000000", "100000000000000000000000000.00000000", "0.00000001"]),
    ("numeric", ["1.5", "1.25", "NaN", "0.00000001"], "VARCHAR", ["1.5", "1.25", "NaN", "0.00000001"]),
    ("double precision", ["1.5", "NaN", "Infinity"], "DOUBLE", ["1.5", "nan", "inf"]),
    ("inet", ["10.0.0.1", "10.0.0.0/8"], "VARCHAR", ["10.0.0.1", "10.0.0.0/8"]),
    ("bytea", ["ab\\000"], "BLOB", ["ab\\x00"]),
    ("interval", ["1 day"], "INTERVAL", ["1 day"]),
    ("timestamptz", ["2024-02-29 12:00+02"], "TIMESTAMPTZ", ["2024-02-29 10:00:00+00"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "to", "stored"), POSTGRES_TO_DUCKDB)
def test_each_value_of_postgres_takes_the_columns_type_in_duckdb(
    transfers: Transfers, kind: str, given: list[str], to: str, stored: list[str]
) -> None:
    with transfers.duckdb() as file:
        file.execute(f"CREATE TABLE copied (n INT, v {to})")
    query = f"SELECT n, v::{kind} AS v FROM unnest(:given::text[]) WITH ORDINALITY AS g(v, n)"
    transfers.run({"type": "postgres"}, {"type": "duckdb", "table": "copied"}, query=query, params={"given": given})
    with transfers.duckdb() as file:
        file.execute("SET TimeZone = 'UTC'")
        assert file.execute("SELECT v::VARCHAR FROM copied ORDER BY n").fetchall() == [(value,) for value in stored]


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_there_and_back_again(transfers: Transfers, kind: str) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"UPDATE people SET part = 0.5 WHERE id = 1")
    target = make_target(transfers, kind)
    transfers.run(FROM_PEOPLE, target, key="id", chunk_size=2, node="there")
    told = [(1, "Ada", 0.5), (2, "O'Neil", None), (3, 'Zoë "z"\n', 7.0)]
    assert read_target(transfers, kind) == told
    back = transfers.run(target, {"type": "postgres", "table": "copied"}, key="id", chunk_size=2, node="back")
    assert (back["rows"], back["chunks"]) == (3, 2)
    assert transfers.rows("SELECT * FROM copied ORDER BY id") == told


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_modes_of_tables_in_files(transfers: Transfers, kind: str) -> None:
    target = make_target(transfers, kind)
    transfers.run(FROM_PEOPLE, target, node="first")
    with transfers.postgres() as connection:
        connection.execute(b"UPDATE people SET name = 'new', part = 1; INSERT INTO people VALUES (4, 'four', 1)")
    found = {**target, "key": "id"}
    transfers.run(FROM_PEOPLE, {**found, "mode": "update"}, mapping=["id", "name"], node="update")
    assert [row[:2] for row in read_target(transfers, kind)] == [(1, "new"), (2, "new"), (3, "new")]
    assert read_target(transfers, kind)[2][2] == 7
    for node in ("upsert", "again"):
        transfers.run(FROM_PEOPLE, {**found, "mode": "upsert"}, node=node)
        assert read_target(transfers, kind) == [(1, "new", 1), (2, "new", 1), (3, "new", 1), (4, "four", 1)]
    transfers.run(FROM_PEOPLE, {**target, "mode": "overwrite"}, mapping=["id"], node="over")
    assert read_target(transfers, kind) == [(n, None, None) for n in range(1, 5)]


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_table_in_a_file_goes_on_behind_the_last_chunk(transfers: Transfers, kind: str) -> None:
    target = make_target(transfers, kind)
    (transfers.files / "rows.csv").write_text("id,name\n8,a\n9,b\n10,c\n10,d\n")
    source = {"type": "file", "path": "rows.csv"}
    failure = transfers.fails(source, target, key="id", chunk_size=1)
    assert failure.code == "key_invalid" and "unique" in str(failure)
    assert [row[0] for row in read_target(transfers, kind)] == [8, 9, 10]
    (transfers.files / "rows.csv").write_text("id,name\n8,a\n9,b\n10,c\n11,d\n")
    told = transfers.run(source, target, key="id", chunk_size=1)
    assert (told["rows"], told["resumed_from"]) == (4, 10)
    assert [row[0] for row in read_target(transfers, kind)] == [8, 9, 10, 11]


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet"])
def test_a_file_there_and_back_again(transfers: Transfers, name: str) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"ALTER TABLE people ADD day date DEFAULT '2024-05-01', ADD ok bool DEFAULT true")
        connection.execute(b"UPDATE people SET part = 0.25 WHERE id = 1")
        connection.execute(b"ALTER TABLE copied ADD day date, ADD ok bool")
    file = {"type": "file", "path": f"out/{name}"}
    ordered = "SELECT * FROM people ORDER BY id"
    assert transfers.run({"type": "postgres"}, file, query=ordered, chunk_size=2, node="there")["rows"] == 3
    assert [path.name for path in (transfers.files / "out").iterdir()] == [name]
    transfers.run(file, {"type": "postgres", "table": "copied"}, key="id", chunk_size=2, node="back")
    more = (date(2024, 5, 1), True)
    wanted = [(1, "Ada", Decimal("0.25"), *more), (2, "O'Neil", None, *more), (3, 'Zoë "z"\n', 7, *more)]
    assert transfers.rows("SELECT * FROM copied ORDER BY id") == wanted


def test_points_in_time_of_duckdb_arrive(transfers: Transfers) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"DROP TABLE copied; CREATE TABLE copied (at timestamptz, day date, n numeric)")
    make_target(transfers, "duckdb")
    query = "SELECT TIMESTAMPTZ '2024-05-01 12:00:00+02' AS at, DATE '2024-05-01' AS day, 1.50::DECIMAL(9,2) AS n"
    transfers.run({"type": "duckdb"}, {"type": "postgres", "table": "copied"}, query=query, key="day")
    assert transfers.rows("SELECT at, day, n FROM copied") == [
        (datetime(2024, 5, 1, 10, tzinfo=UTC), date(2024, 5, 1), Decimal("1.50"))
    ]


def test_a_json_list_is_read_piece_by_piece(transfers: Transfers) -> None:
    rows = [{"id": n, "name": "é" * 50} for n in range(5000)]
    (transfers.files / "rows.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    told = transfers.run({"type": "file", "path": "rows.json"}, {"type": "postgres", "table": "copied"})
    assert told["rows"] == 5000
    assert transfers.rows("SELECT count(*), sum(id), min(length(name)) FROM copied") == [(5000, 12497500, 50)]


def test_large_rows_of_a_json_list_are_not_read_again_and_again(transfers: Transfers) -> None:
    rows = [{"id": n, "name": "é" * 4_000_000} for n in range(2)]
    (transfers.files / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    begun = time.monotonic()
    transfers.run({"type": "file", "path": "rows.json"}, {"type": "file", "path": "a.jsonl"})
    assert time.monotonic() - begun < 3


def test_columns_of_csv_have_names_of_their_own(transfers: Transfers) -> None:
    source, target = {"type": "file", "path": "rows.csv"}, {"type": "file", "path": "a.json"}
    (transfers.files / "rows.csv").write_text("id,name,id\n1,a,2\n")
    failure = transfers.fails(source, target)
    assert failure.code == "file_error" and "two columns have one name" in str(failure)
    (transfers.files / "rows.csv").write_text("id,,name\n1,2,a\n")
    transfers.run(source, target, mapping=["id", "name"])
    assert json.loads((transfers.files / "a.json").read_text()) == [{"id": "1", "name": "a"}]
    (transfers.files / "rows.csv").write_text("id,\n1,2,3\n")
    assert "more cells than there are names" in str(transfers.fails(source, target))


def test_what_later_chunks_lack_of_the_mapping_is_null(transfers: Transfers) -> None:
    source, target = {"type": "file", "path": "rows.json"}, {"type": "file", "path": "a.json"}
    (transfers.files / "rows.json").write_text('[{"id": 1, "name": "a"}, {"id": 2}, {"id": 3, "name": "c"}]')
    transfers.run(source, target, mapping=["id", "name"], chunk_size=1)
    assert [row["name"] for row in json.loads((transfers.files / "a.json").read_text())] == ["a", None, "c"]


def test_a_line_of_csv_has_an_end(transfers: Transfers) -> None:
    (transfers.files / "rows.csv").write_text("id\n" + "," * 11_000_000)
    failure = transfers.fails({"type": "file", "path": "rows.csv"}, {"type": "file", "path": "a.jsonl"})
    assert failure.code == "file_error" and "more than 10000000 characters" in str(failure)


@pytest.mark.parametrize("text", ['{"id": 1}', '[{"id": 1}', '[{"id": 1} {"id": 2}]', "[1]", "", "[{"])
def test_what_is_no_list_of_rows_is_refused(transfers: Transfers, text: str) -> None:
    (transfers.files / "rows.json").write_text(text)
    target = {"type": "postgres", "table": "copied"}
    assert transfers.fails({"type": "file", "path": "rows.json"}, target, mapping=["id"]).code == "file_error"


def test_json_columns_and_lists(transfers: Transfers) -> None:
    with transfers.postgres() as connection:
        connection.execute(b"DROP TABLE copied; CREATE TABLE copied (id int, tags text[], more jsonb, plain text)")
    row = {"id": 1, "tags": ["a", "b"], "more": [1, {"a": None}], "plain": {"b": True}}
    (transfers.files / "rows.jsonl").write_text(json.dumps(row))
    transfers.run({"type": "file", "path": "rows.jsonl"}, {"type": "postgres", "table": "copied"})
    assert transfers.rows("SELECT * FROM copied") == [(1, ["a", "b"], [1, {"a": None}], '{"b":true}')]


# -- what is refused ----------------------------------------------------------------------------------------


def test_a_query_of_postgres_writes_nothing(transfers: Transfers) -> None:
    for query in ("DELETE FROM people RETURNING *", "SELECT 1; DELETE FROM people", "SELECT lo_create(77)"):
        failure = transfers.fails({"type": "postgres"}, {"type": "file", "path": "a.json"}, query=query)
        assert failure.code == "source_failed"
    assert transfers.rows("SELECT count(*) FROM people") == [(3,)]


def test_queries_of_files_reach_nothing_else(transfers: Transfers) -> None:
    secret = transfers.data_dir / "secret.csv"
    secret.write_text("a\n1\n")
    make_target(transfers, "duckdb")
    make_target(transfers, "sqlite")
    file = {"type": "file", "path": "a.json"}
    assert transfers.run({"type": "duckdb"}, file, query="SELECT 1 AS a", node="fine")["rows"] == 1
    with transfers.duckdb() as connection:
        connection.execute("CREATE MACRO via_a_macro(a) AS TABLE FROM query('SELECT ' || a)")
    for query in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT content FROM read_text('{secret}')",
        f"ATTACH '{transfers.data_dir}/x.db'",
        "SET enable_external_access = true",
        "SELECT * FROM secret",
        "DELETE FROM copied",
        "SELECT 1; SELECT 2",
        # They would read this process's memory at an address, or run what nobody has looked at.
        "SELECT * FROM arrow_scan(1, 2, 3)",
        "SELECT * FROM arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)",
        'SELECT * FROM "Arrow_Scan_Dumb" (1::POINTER, 2::POINTER, 3::POINTER)',
        "SELECT * FROM pandas_scan(1::POINTER)",
        "WITH x AS (FROM python_map_function(1)) FROM x",
        "FROM query('SELECT 1')",
        "FROM via_a_macro(1)",
        " UNION ALL ".join(["SELECT 1"] * 20_000),
    ):
        assert transfers.fails({"type": "duckdb"}, file, query=query).code == "source_failed", query
    for query in (
        f"ATTACH '{transfers.data_dir}/x.db' AS x",
        "PRAGMA writable_schema = 1",
        "DELETE FROM copied RETURNING *",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT zeroblob(1000000000)",
        "SELECT hex(randomblob(60000000))",
    ):
        failure = transfers.fails({"type": "sqlite", "path": "a.db"}, file, query=query)
        assert failure.code == "source_failed", query


def test_files_outside_are_refused(transfers: Transfers) -> None:
    (transfers.data_dir / "secret.json").write_text("[]")
    for name in ("../../secret.json", str(transfers.data_dir / "secret.json"), "/etc/passwd"):
        source = {"type": "file", "path": name, "format": "json"}
        assert transfers.fails(source, {"type": "file", "path": "a.json"}).code == "path_not_allowed"
        target = {"type": "file", "path": name, "format": "json"}
        assert transfers.fails(FROM_PEOPLE, target).code == "path_not_allowed"
        if name != "/etc/passwd":
            assert transfers.fails({"type": "sqlite", "path": name, "table": "t"}, target).code == "path_not_allowed"


def test_the_platforms_own_database_is_refused(tmp_path: Path) -> None:
    host = step_socket()
    own = Transfers(host, tmp_path, [ForbiddenTarget(host, "", ROLE, "somebody")])
    file = {"type": "file", "path": "a.json"}
    (own.files / "a.json").write_text("[]")
    assert own.fails(FROM_PEOPLE, file).code == "target_forbidden"
    assert own.fails(file, {"type": "postgres", "table": "copied"}).code == "target_forbidden"


@pytest.mark.parametrize("table", ["a.b.c", "people; DROP TABLE people", 'people"', "", "a..b"])
def test_a_tables_name_is_a_name(transfers: Transfers, table: str) -> None:
    source = {"type": "file", "path": "a.json"}
    (transfers.files / "a.json").write_text("[]")
    assert transfers.fails(source, {"type": "postgres", "table": table}).code == "arguments_invalid"


def test_columns_are_quoted(transfers: Transfers) -> None:
    evil = 'id") FROM STDIN; DROP TABLE people --'
    (transfers.files / "a.json").write_text(json.dumps([{evil: 1}]))
    source, target = {"type": "file", "path": "a.json"}, {"type": "postgres", "table": "copied"}
    failure = transfers.fails(source, target)
    assert failure.code == "target_failed" and "no column" in str(failure)
    for kind in ("duckdb", "sqlite"):
        assert transfers.fails(source, make_target(transfers, kind), node=kind).code == "target_failed"


def test_what_does_not_fit_together_is_refused(transfers: Transfers) -> None:
    file = {"type": "file", "path": "a.json"}
    refused: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        (FROM_PEOPLE, file, {"query": "SELECT 1"}),
        ({"type": "postgres"}, file, {}),
        (file, file, {"query": "SELECT 1"}),
        (FROM_PEOPLE, {**file, "mode": "append"}, {}),
        (FROM_PEOPLE, {"type": "postgres", "table": "copied", "mode": "upsert"}, {}),
        (FROM_PEOPLE, {"type": "postgres", "table": "copied", "key": "id"}, {}),
        (FROM_PEOPLE, {"type": "sqlite", "table": "copied"}, {}),
        ({**FROM_PEOPLE, "path": "x"}, file, {}),
        (FROM_PEOPLE, file, {"auth": "pg"}),
        (FROM_PEOPLE, file, {"chunk_size": 0}),
    ]
    for source, target, more in refused:
        assert transfers.fails(source, target, **more).code == "arguments_invalid", (source, target, more)


def test_a_column_that_is_not_there_is_told(transfers: Transfers) -> None:
    file = {"type": "file", "path": "a.json"}
    assert transfers.fails(FROM_PEOPLE, file, mapping=["nobody"]).code == "mapping_invalid"
    target = {"type": "postgres", "table": "copied"}
    assert transfers.fails(FROM_PEOPLE, target, mapping={"nobody": "id"}).code == "target_failed"
    assert "no table" in str(transfers.fails(FROM_PEOPLE, {"type": "postgres", "table": "nobody"}))


# -- ends ---------------------------------------------------------------------------------------------------

SLOW = {
    "postgres": "SELECT pg_sleep(60)",
    "duckdb": "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS c FROM n",
}


@pytest.mark.parametrize("kind", sorted(SLOW))
def test_a_query_ends_with_the_steps_time_and_when_it_is_cancelled(transfers: Transfers, kind: str) -> None:
    source = make_target(transfers, kind)
    del source["table"]
    file = {"type": "file", "path": "a.json"}
    assert transfers.fails(source, file, query=SLOW[kind], timeout=1).code == "timeout"
    failures: list[ActionFailed] = []
    thread = threading.Thread(target=lambda: failures.append(transfers.fails(source, file, query=SLOW[kind])))
    thread.start()
    wait_for(lambda: list(transfers.files.glob(".*.partial")))
    transfers.cancelled.set()
    thread.join(20)
    assert [failure.code for failure in failures] == ["cancelled"]
    assert list(transfers.files.glob("*.json")) == list(transfers.files.glob(".*.partial")) == []
