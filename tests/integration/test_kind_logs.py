"""What kinds write into the log of their step: a few lines, without values, parameters, queries and secrets."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from executors.contract import ActionKind, ActionRequest, Credential
from executors.registry import build_registry
from executors.running import Lent, run_action
from tests.support.answering import Answer, Asked, Server, answering
from tests.support.database_steps import PASSWORD, ROLE, step_socket
from tests.support.kinds import settings_with

TIME: Final = re.compile(r"\d[\d,.]* (ms|s)\b")
PAGES: Final = 25


@pytest.fixture(scope="module")
def kinds() -> Iterator[dict[str, ActionKind]]:
    registry = build_registry(settings_with(NOETL_HTTP_ALLOWED_NETWORKS=("127.0.0.0/8",)))
    yield registry
    for kind in registry.values():
        kind.close()


class Logs:
    """Runs actions of one execution, and has what they log: `(level, text)`, with `TIME` for every time."""

    def __init__(self, kinds: dict[str, ActionKind], data_dir: Path) -> None:
        self.kinds, self.data_dir = kinds, data_dir
        (data_dir / "files" / "e1").mkdir(parents=True)
        fields = {"db_host": step_socket(), "db_user": ROLE, "db_password": PASSWORD, "db_name": ROLE}
        self.credentials = {
            "pg": Credential("pg", "postgres", fields),
            "hook": Credential("hook", "generic", {"value": "h00k/t0ken"}),
        }

    def of(
        self, kind: str, *, status: str = "success", secrets: Any = None, timeout: float = 20, **arguments: Any
    ) -> list[tuple[str, str]]:
        lent = Lent(self.data_dir, threading.Event(), self.credentials.__getitem__)
        request = ActionRequest(kind, arguments, {}, "e1", "e1:s", "s", 1, "e1:s", timeout)
        outcome = run_action(self.kinds, request, lent, {"secrets": secrets} if secrets else None)
        assert outcome.status == status, outcome
        return [(line.level, TIME.sub("TIME", line.text)) for line in lent.lines.take()]


@pytest.fixture
def logs(kinds: dict[str, ActionKind], tmp_path: Path) -> Logs:
    return Logs(kinds, tmp_path)


def answer(asked: Asked) -> Answer:
    if asked.path == "/silent":
        silent.wait()
    if asked.path == "/busy":
        return Answer({}, 503, {"Retry-After": "7"})
    if asked.path == "/pages":
        page = int(asked.said["page"])
        return Answer([page] if page <= PAGES else [])
    return Answer({"n": 1})


silent = threading.Event()


@pytest.fixture
def server() -> Iterator[Server]:
    silent.clear()
    with answering(answer) as running:
        yield running
        silent.set()


def host(server: Server) -> str:
    return server.url.removeprefix("http://")


# -- http --------------------------------------------------------------------------------------------


def test_a_request_is_told_without_its_query(logs: Logs, server: Server) -> None:
    assert logs.of("http", url=f"{server.url}/stores?key=s3cret", params={"token": "s3cret"}) == [
        ("info", f"GET {host(server)}/stores: 200 in TIME, 8 bytes"),
    ]


def test_a_secret_in_a_path_is_hidden_also_where_the_path_is_cut(logs: Logs, server: Server) -> None:
    for padding in ("", "x" * 280):
        place = f"{padding}{'⟦secret:hook⟧'}"
        lines = logs.of(
            "http", url=f"{server.url}/{place}", method="POST", json={"n": 1}, secrets={"/arguments/url": ["hook"]}
        )
        assert len(lines) == 1 and "h00k" not in str(lines) and lines[0][1].startswith(f"POST {host(server)}/")


def test_what_the_server_asks_for_is_told(logs: Logs, server: Server) -> None:
    assert logs.of("http", status="error", url=f"{server.url}/busy") == [
        ("warning", f"GET {host(server)}/busy: 503 in TIME, 2 bytes, asks to be left alone for TIME"),
    ]


def test_no_reply_is_told(logs: Logs, server: Server) -> None:
    assert logs.of("http", status="error", url=f"{server.url}/silent", timeout=0.3) == [
        ("warning", f"GET {host(server)}/silent: no reply after TIME"),
    ]


def test_pages_are_told_until_there_are_many(logs: Logs, server: Server) -> None:
    lines = logs.of("http", url=f"{server.url}/pages", pagination={"type": "page"})
    assert len(server.asked) == PAGES + 1
    assert len(lines) == 21
    assert lines[-1][1] == f"GET {host(server)}/pages: 200 in TIME, 2 bytes (5 lines before it were left out)"


def test_a_save_is_told_as_what_it_is(logs: Logs, server: Server) -> None:
    lines = logs.of("save", storage="http", data=[1, 2, 3], chunk_size=2, spec={"url": f"{server.url}/rows"})
    assert lines == [("info", f"POST {host(server)}/rows: 200 in TIME, 8 bytes")] * 2


# -- databases ---------------------------------------------------------------------------------------


def test_statements_of_postgres_are_told_by_their_first_word(logs: Logs) -> None:
    sql = "/* s3cret */ SELECT :word AS word; WITH n AS (SELECT 1) SELECT * FROM n, generate_series(1, 3); SELECT 1/0"
    lines = logs.of("postgres", status="error", auth="pg", query=sql, params={"word": "s3cret"})
    assert lines == [
        ("info", "command_0 SELECT: 1 rows in TIME"),
        ("info", "command_1 WITH: 3 rows in TIME"),
        ("warning", "command_2 SELECT: failed after TIME (22012)"),
    ]


def test_many_statements_are_few_lines(logs: Logs) -> None:
    lines = logs.of("postgres", auth="pg", query=["SELECT 1"] * 300)
    assert len(lines) == 21
    assert lines[-1][1] == "command_299 SELECT: 1 rows in TIME (279 lines before it were left out)"


def test_a_copy_tells_its_bytes(logs: Logs) -> None:
    sql = "COPY (SELECT generate_series(1, 3)) TO STDOUT"
    assert logs.of("postgres", auth="pg", query=sql, copy={"to": "three.csv"}) == [
        ("info", "command_0 COPY: 3 rows, 6 bytes in TIME"),
    ]


def test_an_effect_that_was_there_is_told(logs: Logs) -> None:
    first = logs.of("postgres", auth="pg", query="SELECT 1", exactly_once=True)
    assert first[-1] in [
        ("info", "command_0 SELECT: 1 rows in TIME"), ("info", "an earlier attempt did it: nothing is run"),
    ]  # fmt: skip
    assert logs.of("postgres", auth="pg", query="SELECT 1", exactly_once=True) == [
        ("info", "an earlier attempt did it: nothing is run"),
    ]


def test_statements_of_duckdb_are_told_as_they_end(logs: Logs) -> None:
    sql = "CREATE TABLE t AS SELECT 's3cret' AS a; FROM t; COPY t TO 't.csv'; SELECT $word; SELECT error('s3cret')"
    lines = logs.of("duckdb", status="error", query=sql, params={"word": "s3cret"})
    assert lines == [
        ("info", "command_0 CREATE: 1 rows in TIME"),
        ("info", "command_1 SELECT: 1 rows in TIME"),
        ("info", "command_2 COPY: 1 rows in TIME"),
        ("info", "command_3 SELECT: 1 rows in TIME"),
        ("warning", "command_4 SELECT: failed after TIME"),
    ]


def test_a_transfer_tells_where_it_leads_and_how_much_it_was(logs: Logs) -> None:
    lines = logs.of(
        "transfer",
        source={"type": "postgres"},
        query="SELECT n FROM generate_series(1, 1000) AS n",
        auth={"reading": "pg"},
        target={"type": "file", "path": "numbers.csv"},
        chunk_size=10,
    )
    assert lines == [("info", "from postgres to file"), ("info", "1,000 rows in 100 chunks after TIME")]


# -- people ------------------------------------------------------------------------------------------


def test_who_was_told_is_told(logs: Logs, server: Server) -> None:
    to = [f"json://{host(server)}/h00k-t0ken", "json://192.0.2.1/other"]
    lines = logs.of("notify", status="error", body="all is well", to=to)
    assert lines[0] == ("info", f"json://{host(server)}/***: told")
    assert lines[1][0] == "warning" and lines[1][1].startswith("json://192.0.2.1/***: refused, ")
