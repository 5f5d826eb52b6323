"""COPY of the postgres kind into files and out of them, rows in a file, and where such files may be."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.contract import ActionFailed
from tests.support.database_steps import Step, peak_of, step_socket

MILLION = 1_000_000


@pytest.fixture(scope="module")
def socket_folder() -> str:
    return step_socket()


@pytest.fixture
def step(socket_folder: str, tmp_path: Path) -> Iterator[Step]:
    step = Step(socket_folder, tmp_path)
    step.run("drop table if exists orders; create table orders (id int, name text)")
    yield step
    step.run("drop table orders")
    step.action.close()


def put(step: Step, name: str, content: bytes) -> None:
    step.files.mkdir(parents=True, exist_ok=True)
    (step.files / name).write_bytes(content)


# -- COPY ---------------------------------------------------------------------------------------------


def test_copy_to_a_file(step: Step) -> None:
    step.run("insert into orders values (1, 'a,b'), (2, 'it''s \"é\"'), (3, null)")
    told = step.run("copy orders to stdout (format csv, header)", copy={"to": "out/orders.csv"})["command_0"]
    file = step.files / "out" / "orders.csv"
    assert told == {
        "status": "success",
        "row_count": 3,
        "message": "COPY 3",
        "path": "out/orders.csv",
        "bytes": file.stat().st_size,
    }
    with file.open(newline="") as lines:
        assert list(csv.reader(lines)) == [["id", "name"], ["1", "a,b"], ["2", 'it\'s "é"'], ["3", ""]]


def test_copy_from_a_file(step: Step) -> None:
    put(step, "orders.csv", 'id,name\n1,"a,b"\n2,é\n'.encode())
    told = step.run("copy orders from stdin (format csv, header)", copy={"from": "orders.csv"})["command_0"]
    assert (told["row_count"], told["path"], told["bytes"]) == (2, "orders.csv", 21)
    assert step.value("select json_agg(o order by id) from orders o") == [
        {"id": 1, "name": "a,b"},
        {"id": 2, "name": "é"},
    ]


@pytest.mark.parametrize("form", ["csv", "text", "binary"])
def test_a_copy_comes_back_in_every_format(step: Step, form: str) -> None:
    step.run("insert into orders select g, repeat('x', g % 100) || E'\\n\\t\\\\,\"' from generate_series(1, 5000) g")
    seen = "select md5(string_agg(id || name, ',' order by id)) from orders"
    before = step.value(seen)
    step.run(f"copy orders to stdout (format {form})", copy={"to": "o"})
    step.run(f"truncate orders; copy orders from stdin (format {form})", copy={"from": "o"})
    assert step.value(seen) == before


def test_several_copies_in_their_order_beside_other_statements(step: Step) -> None:
    put(step, "a", b"1\tone\n")
    put(step, "b", b"2\ttwo\n")
    told = step.run(
        ["copy orders from stdin; update orders set name = 'ONE'", "copy orders from stdin; copy orders to stdout"],
        copy=[{"from": "a"}, {"from": "b"}, {"to": "c"}],
        transaction="all",
    )
    assert [told[f"command_{n}"]["row_count"] for n in range(4)] == [1, 1, 1, 2]
    assert sorted((step.files / "c").read_text().splitlines()) == ["1\tONE", "2\ttwo"]


def test_an_empty_file_and_an_empty_table(step: Step) -> None:
    put(step, "empty", b"")
    assert step.run("copy orders from stdin", copy={"from": "empty"})["command_0"]["row_count"] == 0
    assert step.run("copy orders to stdout", copy={"to": "none"})["command_0"]["bytes"] == 0
    assert (step.files / "none").read_bytes() == b""


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("copy orders to stdout", None),
        ("copy orders from stdin", None),
        ("copy orders to stdout", {"from": "x"}),
        ("copy orders to stdout; copy orders to stdout", {"to": "x"}),
    ],
)
def test_a_copy_without_its_file_is_refused_before_anything_runs(step: Step, text: str, copy: Any) -> None:
    failure = step.fails(f"insert into orders values (1); {text}", copy=copy or [])
    assert failure.code == "sql_error" and "copy: {" in str(failure)
    assert step.value("select count(*) from orders") == 0


@pytest.mark.parametrize(
    "copy", [{"to": "x"}, [{"to": "x"}, {"to": "y"}], {"to": "x", "from": "y"}, {}, {"to": ""}, {"into": "x"}]
)
def test_a_file_without_its_copy_is_refused(step: Step, copy: Any) -> None:
    failure = step.fails("insert into orders values (1)", copy=copy)
    assert failure.code == "arguments_invalid" and step.value("select count(*) from orders") == 0


def test_a_file_that_does_not_fit_takes_nothing_in_and_names_the_line(step: Step) -> None:
    pid = step.value("select pg_backend_pid()")
    put(step, "bad", b"1\tone\ntwo\ttwo\n" + b"3\tthree\n" * 100_000)
    failure = step.fails("copy orders from stdin", copy={"from": "bad"})
    assert failure.code == "sql_error" and "command_0: invalid input syntax" in str(failure)
    assert step.value("select count(*) from orders") == 0
    assert step.value("select pg_backend_pid()") == pid, "the connection is still good"


def test_a_copy_that_fails_leaves_no_file_and_an_older_one_as_it_was(step: Step) -> None:
    put(step, "o", b"older")
    step.fails("copy (select 1 / (3 - g) from generate_series(1, 5) g) to stdout", copy={"to": "o"})
    assert [path.name for path in step.files.iterdir()] == ["o"] and (step.files / "o").read_bytes() == b"older"


@pytest.mark.parametrize(
    "name", ["../e2/x", "/etc/passwd", "a/../../x", "..", ".", "out/..", "link/x", "a\x00b", "~/../../../x", "x" * 300]
)
@pytest.mark.parametrize("direction", ["to", "from"])
def test_files_are_those_of_the_execution(step: Step, name: str, direction: str) -> None:
    step.files.mkdir(parents=True)
    (step.files / "link").symlink_to(step.data_dir)
    (step.data_dir / "x").write_text("1\ta\n")
    text = "copy orders to stdout" if direction == "to" else "copy orders from stdin"
    failure = step.fails(text, copy={direction: name})
    assert failure.code == ("file_error" if name == "x" * 300 else "path_not_allowed")
    assert (step.data_dir / "x").read_text() == "1\ta\n" and step.value("select count(*) from orders") == 0


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_cannot_be_read(step: Step, kind: str) -> None:
    step.files.mkdir(parents=True)
    (step.files / "folder").mkdir()
    os.mkfifo(step.files / "pipe")
    assert step.fails("copy orders from stdin", copy={"from": kind}).code == "file_error"


def backends(step: Step) -> int:
    return int(step.value("select count(*) from pg_stat_activity where query ilike 'copy %' and state = 'active'"))


def wait_for(step: Step, number: int) -> bool:
    deadline = time.monotonic() + 5
    while backends(step) != number and time.monotonic() < deadline:
        pass
    return backends(step) == number


@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_copy_is_stopped_on_the_server(step: Step, socket_folder: str, direction: str) -> None:
    other = Step(socket_folder, step.data_dir)
    text = "copy (select pg_sleep(1) from generate_series(1, 60)) to stdout"
    if direction == "from":
        # The lock keeps it from taking anything in.
        put(step, "x", b"1\ta\n" * 3_000_000)
        text = "copy orders from stdin"
        step.action.close()
        holder = Step(socket_folder, step.data_dir)
        hold = "begin; lock table orders; select pg_sleep(60); commit"
        locking = threading.Thread(target=lambda: holder.fails(hold, timeout=60))
        locking.start()
        deadline = time.monotonic() + 5
        while (
            not step.value(
                "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted"
                " and relation = 'orders'::regclass"
            )
            and time.monotonic() < deadline
        ):
            pass
    outcome: list[ActionFailed] = []
    thread = threading.Thread(target=lambda: outcome.append(other.fails(text, copy={direction: "x"}, timeout=60)))
    thread.start()
    assert wait_for(step, 1)
    other.cancelled.set()
    thread.join(5)
    assert outcome[0].code == "cancelled" and wait_for(step, 0)
    if direction == "from":
        holder.cancelled.set()
        locking.join(5)


def test_a_million_rows_are_never_held_in_memory(step: Step) -> None:
    source = f"copy (select g, 'name ' || g from generate_series(1, {MILLION}) g) to stdout (format csv)"
    out = peak_of(lambda: step.run(source, copy={"to": "m.csv"}, timeout=120))
    back = peak_of(lambda: step.run("copy orders from stdin (format csv)", copy={"from": "m.csv"}, timeout=120))
    assert step.value("select count(*) from orders") == MILLION
    assert (step.files / "m.csv").stat().st_size > 15_000_000
    assert max(out, back) < 8_000_000


# -- rows in a file -----------------------------------------------------------------------------------


def test_rows_go_into_a_file_when_asked(step: Step) -> None:
    text = (
        "select g as id, 'é' || g as name, 1.5::numeric as n, null as o from generate_series(1, 20000) g;"
        " select 1 where false"
    )
    told = step.run(text, rows_to="file", node="each:3#2")
    file = step.files / told["command_0"]["path"]
    assert told["command_0"] == {
        "status": "success",
        "row_count": 20000,
        "columns": ["id", "name", "n", "o"],
        "path": file.name,
        "bytes": file.stat().st_size,
    }
    lines = file.read_text().splitlines()
    assert len(lines) == 20000 and json.loads(lines[1]) == {"id": 2, "name": "é2", "n": 1.5, "o": None}
    assert told["command_1"]["row_count"] == 0 and (step.files / told["command_1"]["path"]).read_bytes() == b""


def test_every_place_has_a_file_of_its_own_and_every_attempt_the_same(step: Step) -> None:
    nodes = ["each", "each:3", "each:3#2", "each:3:2", "each.3", "each_3", "x/../y", "é", "a" * 300]
    told = [step.run("select 1", rows_to="file", node=node)["command_0"]["path"] for node in nodes * 2]
    assert told[:9] == told[9:] and len(set(told)) == 9 == len(list(step.files.iterdir()))
    assert told[0] == "each.command_0.jsonl"


def test_statements_without_rows_make_no_file(step: Step) -> None:
    told = step.run("insert into orders values (1)", rows_to="file")["command_0"]
    assert told == {"status": "success", "row_count": 1, "message": "INSERT 0 1"} and not step.files.exists()


def test_rows_that_fail_on_their_way_leave_no_file(step: Step) -> None:
    step.fails("select 1 / (2000 - g) from generate_series(1, 3000) g", rows_to="file")
    assert list(step.files.iterdir()) == []


def test_rows_in_a_file_are_never_held_in_memory(step: Step) -> None:
    text = "select g, repeat('x', 100) as x from generate_series(1, 200000) g"
    assert peak_of(lambda: step.run(text, rows_to="file", timeout=120)) < 8_000_000
