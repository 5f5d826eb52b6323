"""The storages of tables, Postgres and DuckDB alike: modes, keys, statements, repeated attempts, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.database_steps import PASSWORD, step_socket
from tests.support.saves import Saves, all_at_once, written

NASTY = 'x\'); DROP TABLE t; --\n"{{ 1 }}" :a $1 %s \\'


@pytest.fixture(params=["postgres", "duckdb"])
def saves(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Saves]:
    """Into a table with a key, a default and an odd name."""
    saves = Saves(request.param, step_socket(), tmp_path)
    for table in ("t", "noetl_effects", "noetl_progress"):
        saves.sql(f"DROP TABLE IF EXISTS {table}")
    saves.sql('CREATE TABLE t (id int PRIMARY KEY, name varchar DEFAULT \'nobody\', "odd "" name" int)')
    yield saves
    saves.action.close()
    for table in ("t", "noetl_effects", "noetl_progress"):
        saves.sql(f"DROP TABLE IF EXISTS {table}")


def rows(saves: Saves) -> list[tuple[Any, ...]]:
    return saves.sql("SELECT id, name FROM t ORDER BY id")


def test_rows_are_appended(saves: Saves) -> None:
    told = saves.run([{"id": 1, "name": NASTY}, {"id": 2, "name": None}], table="t")
    assert told == written(saves.storage, 2)
    assert saves.run({"id": 3, 'odd " name': 7}, table="t", node="other") == written(saves.storage, 1)
    assert saves.sql("SELECT * FROM t ORDER BY id") == [(1, NASTY, None), (2, None, None), (3, "nobody", 7)]


def test_what_a_row_does_not_name_is_left_alone(saves: Saves) -> None:
    saves.run([{"id": 1}, {"id": 2, "name": "two"}, {"name": None, "id": 3}], table="t")
    assert rows(saves) == [(1, "nobody"), (2, "two"), (3, None)]
    saves.run([{"id": 1, 'odd " name': 1}, {"id": 2, "name": "zwei"}], table="t", mode="upsert", key="id")
    assert saves.sql("SELECT * FROM t ORDER BY id") == [(1, "nobody", 1), (2, "zwei", None), (3, None, None)]


def test_overwrite_leaves_the_new_rows_alone(saves: Saves) -> None:
    saves.run([{"id": 1}, {"id": 2}], table="t")
    for _ in range(2):
        assert saves.run([{"id": 2, "name": "b"}], table="t", mode="overwrite") == written(saves.storage, 1)
        assert rows(saves) == [(2, "b")]
    assert saves.run([], table="t", mode="overwrite") == written(saves.storage, 0)
    assert rows(saves) == []


def test_update_changes_what_is_there_and_nothing_else(saves: Saves) -> None:
    saves.run([{"id": 1}, {"id": 2}], table="t")
    told = saves.run([{"id": 2, "name": "b"}, {"id": 9, "name": "z"}], table="t", mode="update", key="id")
    assert told == written(saves.storage, 1)
    assert rows(saves) == [(1, "nobody"), (2, "b")]


@pytest.mark.parametrize("node", ["s#save", "other#save"])
def test_an_upsert_twice_is_one_row(saves: Saves, node: str) -> None:
    """Whether it is repeated or another step's."""
    for place in ("s#save", node):
        told = saves.run([{"id": 1, "name": "a"}], table="t", mode="upsert", key=["id"], node=place)
        assert told == written(saves.storage, 1)
    assert rows(saves) == [(1, "a")]
    saves.run([{"id": 1, "name": "b"}, {"id": 2}], table="t", mode="upsert", key="id")
    assert rows(saves) == [(1, "b"), (2, "nobody")]


def test_rows_with_one_key_count_one_after_another(saves: Saves) -> None:
    given = [{"id": 1, "name": "first"}, {"id": 1, 'odd " name': 5}, {"id": 1, "name": "last"}]
    saves.run(given, table="t", mode="upsert", key="id")
    assert saves.sql("SELECT * FROM t") == [(1, "last", 5)]


def test_a_statement_is_bound_and_run_for_each_row(saves: Saves) -> None:
    text = "INSERT INTO t (id, name) VALUES (:id, :name) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    given = [{"id": 1, "name": NASTY}, {"id": 2, "name": "two", "more": 0}, {"id": 1, "name": "again"}]
    assert saves.run(statement=text, params=given) == written(saves.storage, 3, None)
    assert rows(saves) == [(1, "again"), (2, "two")]
    assert saves.run({"id": 3, "name": NASTY}, statement=text, node="of_data") == written(saves.storage, 1, None)
    assert saves.run(statement="DELETE FROM t WHERE id < 3;", node="once") == written(saves.storage, 2, None)
    assert rows(saves) == [(3, NASTY)]


def test_a_statement_for_no_rows_does_nothing(saves: Saves) -> None:
    text = "INSERT INTO t (id) VALUES (:id)"
    assert saves.run([], statement=text) == written(saves.storage, 0, None)
    assert saves.run({"id": 1}, statement=text, params=[], node="of_params") == written(saves.storage, 0, None)
    assert rows(saves) == []


def test_a_statement_may_return_rows(saves: Saves) -> None:
    text = "INSERT INTO t (id) VALUES (:id) RETURNING id, name"
    assert saves.run([{"id": 4}, {"id": 5}], statement=text) == written(saves.storage, 2, None)


def test_many_times_a_statement(saves: Saves) -> None:
    """More than are sent at once."""
    text = "INSERT INTO t (id, name) VALUES (:id, :name)"
    given = [{"id": number, "name": "x" * 1000} for number in range(450)]
    assert saves.run(given, statement=text) == written(saves.storage, 450, None)
    assert saves.sql("SELECT count(*), sum(id) FROM t") == [(450, sum(range(450)))]


@pytest.mark.parametrize("how", ["table", "statement"])
def test_a_repeated_attempt_appends_nothing_and_tells_the_same(saves: Saves, how: str) -> None:
    saves.sql("CREATE TABLE u (id int)")
    try:
        to: dict[str, Any] = {"table": "u"} if how == "table" else {"statement": "INSERT INTO u (id) VALUES (:id)"}
        first = saves.run([{"id": 1}, {"id": 2}], **to)
        assert saves.run([{"id": 1}, {"id": 2}], **to) == first
        assert saves.sql("SELECT count(*) FROM u") == [(2,)]
        saves.run([{"id": 1}], **to, node="other#save")
        saves.run([{"id": 1}], **to, node="s#save:1")
        assert saves.sql("SELECT count(*) FROM u") == [(4,)]
    finally:
        saves.sql("DROP TABLE u")


def test_chunks_are_one_transaction(saves: Saves) -> None:
    """The last of them fails, and nothing is written; another attempt then does it all."""
    given: list[dict[str, Any]] = [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 1}]
    failure = saves.fails(given, table="t", chunk_size=2)
    assert failure.code == "target_failed" and rows(saves) == []
    assert saves.run(given[:3], table="t", chunk_size=1) == written(saves.storage, 3)
    assert len(rows(saves)) == 3


REFUSED: list[tuple[Any, dict[str, Any], str, str]] = [
    ({"id": 1}, {"table": "nowhere"}, "target_failed", "nowhere"),
    ({"id": 1}, {"table": "nowhere.t"}, "target_failed", "nowhere"),
    ({"id": 1}, {"table": 't" (id); DROP TABLE t; --'}, "arguments_invalid", "no table's name"),
    ({"id": 1}, {"table": ""}, "arguments_invalid", "no table's name"),
    ({"id": 1, "nope": 2}, {"table": "t"}, "target_failed", "nope"),
    ({"id": 1, "": 2}, {"table": "t"}, "arguments_invalid", "no column's name"),
    ({"id": "one"}, {"table": "t"}, "target_failed", "one"),
    (7, {"table": "t"}, "arguments_invalid", "the row at index 0 is no map"),
    ([{"id": 1}, [2]], {"table": "t"}, "arguments_invalid", "the row at index 1 is no map"),
    ({}, {"table": "t"}, "arguments_invalid", "is no map of columns"),
    (None, {"table": "t"}, "arguments_invalid", "is no map"),
    ({"name": "a"}, {"table": "t", "mode": "upsert", "key": "id"}, "key_invalid", "index 0 has no 'id'"),
    ({"id": None}, {"table": "t", "mode": "update", "key": "id"}, "key_invalid", "index 0 has no 'id'"),
    ({"id": [1]}, {"table": "t", "mode": "upsert", "key": "id"}, "key_invalid", "a list or a map"),
    ({"id": 1}, {"table": "t", "mode": "upsert"}, "arguments_invalid", "needs `key`"),
    ({"id": 1}, {"table": "t", "mode": "upsert", "key": ""}, "arguments_invalid", "needs `key`"),
    ({"id": 1}, {"table": "t", "mode": "update", "key": "id"}, "arguments_invalid", "a column beside the key"),
    ({"id": 1, "name": "a"}, {"table": "t", "mode": "upsert", "key": "name"}, "target_failed", ""),
    ({"id": 1}, {"statement": "INSERT INTO t (id) VALUES (:nope)"}, "arguments_invalid", "no parameter 'nope'"),
    ([{"a": 1}, {"b": 1}], {"statement": "DELETE FROM t WHERE id = :a"}, "arguments_invalid", "index 1 has no 'a'"),
    (7, {"statement": "INSERT INTO t (id) VALUES (:id)"}, "arguments_invalid", "no parameter 'id'"),
    ({"id": 1}, {"statement": "DELETE FROM t; DELETE FROM t"}, "arguments_invalid", "one statement"),
    ({"id": 1}, {"statement": "  "}, "arguments_invalid", "one statement"),
    ({"id": 1}, {"statement": "COMMIT"}, "arguments_invalid", "part of a transaction"),
    ({"id": 1}, {"statement": "COPY t FROM STDIN"}, "arguments_invalid", "no COPY"),
    ({"id": 1}, {"statement": "NONSENSE"}, "target_failed", ""),
    ({"id": 1}, {"statement": "INSERT INTO nowhere (id) VALUES (:id)"}, "target_failed", "nowhere"),
    ({"id": 1}, {"table": "t", "spec": {"tabel": "t"}}, "arguments_invalid", "takes no 'tabel'"),
]


@pytest.mark.parametrize(("data", "arguments", "code", "told"), REFUSED)
def test_what_is_refused(saves: Saves, data: Any, arguments: dict[str, Any], code: str, told: str) -> None:
    saves.sql("INSERT INTO t (id) VALUES (100)")
    failure = saves.fails(data, **arguments)
    assert (failure.code, told in str(failure)) == (code, True), failure
    assert PASSWORD not in str(failure)
    assert rows(saves) == [(100, "nobody")]


def test_the_row_that_a_statement_fails_with_is_named(saves: Saves) -> None:
    given = [{"id": 1}, {"id": 2}, {"id": "three"}, {"id": 4}]
    failure = saves.fails(given, statement="INSERT INTO t (id) VALUES (:id)")
    assert (failure.code, "entry at index 2" in str(failure)) == ("target_failed", True)
    assert rows(saves) == []


def test_nothing_to_save_is_saved(saves: Saves) -> None:
    assert saves.run([], table="t") == written(saves.storage, 0)
    assert saves.run([], statement="DELETE FROM t", node="other") == written(saves.storage, 0, None)


def test_a_save_ends_with_its_time(saves: Saves) -> None:
    numbers = {"duckdb": "unnest(range(20000))", "postgres": "generate_series(1, 20000)"}[saves.storage]
    many = ", ".join(f"(SELECT {numbers} AS g) AS {name}" for name in "abc")
    text = f"INSERT INTO t (id) SELECT count(*) FROM {many} WHERE a.g + b.g + c.g < 0"
    assert saves.fails(statement=text, timeout=1).code == "timeout"
    saves.cancelled.set()
    assert saves.fails([{"id": 1}], table="t").code == "cancelled"


def test_chunks_at_once_do_not_meet(saves: Saves) -> None:
    """Neither where the table of notes is not there yet, nor at one row."""
    numbers = iter(range(4))
    assert all_at_once(lambda: saves.run({"id": (n := next(numbers))}, table="t", node=f"s#save:{n}")) == (
        [written(saves.storage, 1)] * 4
    )
    assert len(rows(saves)) == 4
    upsert: dict[str, Any] = {"table": "t", "mode": "upsert", "key": "id"}
    assert all_at_once(lambda: saves.run({"id": 1, "name": "x"}, **upsert)) == [written(saves.storage, 1)] * 4
    assert rows(saves)[1] == (1, "x")
