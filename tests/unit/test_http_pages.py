"""Pagination of the http kind against a local server: types, merging, ends and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from executors.actions.http import HttpAction
from executors.actions.http.paging import NOTHING, value_at
from executors.contract import Credential
from tests.support.answering import Answer, Asked, Server, answering
from tests.support.asking import Asking

ITEMS = list(range(7))
SIZE = 3


def answer(asked: Asked) -> Answer:
    said = asked.said
    match asked.path:
        case "/page":
            first = (int(said["page"]) - 1) * SIZE
            return Answer({"items": ITEMS[first : first + SIZE]})
        case "/offset":
            first = int(said["offset"])
            return Answer({"items": ITEMS[first : first + int(said.get("limit", SIZE))]})
        case "/cursor":
            body = json.loads(asked.body) if asked.body else {}
            first = int(body.get("after", said.get("cursor", 0)))
            last = first + SIZE >= len(ITEMS)
            meta = {"next": None if last else first + SIZE}
            return Answer({"items": ITEMS[first : first + SIZE], "meta": meta}, headers={"X-Next": str(first + SIZE)})
        case "/link":
            first = int(said.get("from", 0))
            told = {} if first + SIZE >= len(ITEMS) else {"Link": f'</link?from={first + SIZE}>; rel="next"'}
            return Answer(ITEMS[first : first + SIZE], headers=told)
        case "/linked":
            first = int(said.get("from", 0))
            more = f"/linked?from={first + SIZE}" if first + SIZE < len(ITEMS) else None
            return Answer({"items": ITEMS[first : first + SIZE], "links": {"next": more}})
        case "/away":
            return Answer([1], headers={"Link": f"<{said['to']}>; rel=next"})
        case "/round":
            return Answer({"items": [1], "next": "same"})
        case "/forever":
            return Answer({"items": [0] * 1000})
        case "/breaks":
            return Answer({"items": [1]}, status=200 if said["page"] == "1" else 503, headers={"Retry-After": "7"})
    return Answer(["echo", {name: value for name, value in asked.headers.items() if name != "host"}])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with answering(answer) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_asked(server: Server) -> None:
    server.asked.clear()


@pytest.fixture(scope="module")
def asking() -> Iterator[Asking]:
    action = HttpAction(["127.0.0.0/8"], max_bytes=100_000)
    yield Asking(action, credentials={"api": Credential("api", "bearer", {"token": "t0ken-value"})})
    action.close()


@pytest.mark.parametrize(
    ("path", "rules"),
    [
        ("/page", {"type": "page", "path": "data.items"}),
        ("/page", {"type": "page", "path": "data.items", "start": 1, "param": "page"}),
        ("/offset", {"type": "offset", "path": "data.items", "size": SIZE}),
        ("/offset", {"type": "offset", "path": "data.items"}),
        ("/offset", {"type": "offset", "path": "data.items", "size": 2, "size_param": "limit"}),
        ("/cursor", {"type": "cursor", "path": "data.items", "cursor_path": "data.meta.next"}),
        ("/link", {"type": "link"}),
        ("/linked", {"type": "link", "path": "data.items", "link_path": "data.links.next"}),
    ],
)
def test_all_items_come_in_order(asking: Asking, server: Server, path: str, rules: dict[str, Any]) -> None:
    result = asking.run(url=server.url + path, pagination=rules)
    assert result["data"] == ITEMS and result["complete"] is True
    assert set(result) == {"status_code", "headers", "url", "elapsed", "data", "pages", "complete"}
    assert result["pages"] == len(server.asked)


def test_the_steps_own_query_goes_along_and_the_size_is_said(asking: Asking, server: Server) -> None:
    rules = {"type": "page", "path": "data.items", "size": SIZE, "size_param": "n"}
    asking.run(url=f"{server.url}/page", params={"q": "x"}, pagination=rules)
    assert [asked.said for asked in server.asked] == [{"q": "x", "n": "3", "page": str(n)} for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("merge", "expected"), [("append", [ITEMS[:3], ITEMS[3:6], ITEMS[6:]]), ("extend", ITEMS), ("replace", ITEMS[6:])]
)
def test_pages_are_merged(asking: Asking, server: Server, merge: str, expected: Any) -> None:
    rules = {"type": "page", "path": "data.items", "merge": merge}
    assert asking.run(url=f"{server.url}/page", pagination=rules)["data"] == expected


def test_a_cursor_may_stand_in_the_body_and_each_write_has_its_key(asking: Asking, server: Server) -> None:
    rules = {"type": "cursor", "in": "body", "param": "after", "path": "data.items", "cursor_path": "data.meta.next"}
    result = asking.run(url=f"{server.url}/cursor", method="POST", json={"q": 1}, pagination=rules)
    assert result["data"] == ITEMS
    assert [json.loads(asked.body) for asked in server.asked] == [{"q": 1}, {"q": 1, "after": 3}, {"q": 1, "after": 6}]
    keys = [asked.headers["idempotency-key"] for asked in server.asked]
    assert keys == ["e1:s", "e1:s/page-2", "e1:s/page-3"]


def test_a_form_takes_it_too(asking: Asking, server: Server) -> None:
    rules = {"type": "page", "in": "body", "path": "data", "max_pages": 2, "merge": "replace"}
    asking.run(url=f"{server.url}/echo", method="POST", form={"q": 1}, pagination=rules)
    assert [asked.body for asked in server.asked] == [b"q=1&page=1", b"q=1&page=2"]


def test_a_cursor_may_stand_in_a_header_of_any_case(asking: Asking, server: Server) -> None:
    rules = {"type": "cursor", "path": "data.items", "cursor_path": "headers.x-NEXT", "max_pages": 2}
    assert asking.run(url=f"{server.url}/cursor", pagination=rules)["data"] == ITEMS[:6]


@pytest.mark.parametrize(
    ("bound", "data", "pages"), [({"max_pages": 2}, ITEMS[:6], 2), ({"max_items": 4}, ITEMS[:4], 2)]
)
def test_a_bound_of_the_step_ends_it_quietly(
    asking: Asking, server: Server, bound: dict[str, int], data: list[int], pages: int
) -> None:
    result = asking.run(url=f"{server.url}/page", pagination={"type": "page", "path": "data.items", **bound})
    assert (result["data"], result["pages"], result["complete"]) == (data, pages, False)
    assert len(server.asked) == pages


def test_the_last_page_is_complete_also_at_the_bound(asking: Asking, server: Server) -> None:
    assert asking.run(url=f"{server.url}/link", pagination={"type": "link", "max_pages": 3})["complete"] is True


def test_all_pages_together_are_bounded(asking: Asking, server: Server) -> None:
    error = asking.failure(url=f"{server.url}/forever", pagination={"type": "page", "path": "data.items"})
    assert error.code == "output_too_large" and "together" in str(error)
    assert len(server.asked) == 34, "3,000 bytes each"


def test_a_step_without_a_bound_never_ends_quietly(
    asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executors.actions.http.paging.DEFAULT_MAX_PAGES", 5)
    error = asking.failure(url=f"{server.url}/forever", pagination={"type": "page", "path": "data.items"})
    assert error.code == "pagination_invalid" and "max_pages" in str(error) and len(server.asked) == 5


@pytest.mark.parametrize(
    ("path", "rules", "said"),
    [
        ("/page", {"type": "page", "path": "data.rows"}, "nothing at 'data.rows'"),
        ("/cursor", {"type": "cursor", "path": "data.meta", "cursor_path": "data.meta.next"}, "no list"),
        ("/round", {"type": "cursor", "path": "data.items", "cursor_path": "data.next"}, "leads back to itself"),
        ("/cursor", {"type": "cursor", "path": "data.items", "cursor_path": "data.meta"}, "is no text"),
        ("/offset", {"type": "offset", "path": "data.items", "merge": "append"}, "needs a size"),
    ],
)
def test_replies_that_do_not_fit(asking: Asking, server: Server, path: str, rules: dict[str, Any], said: str) -> None:
    error = asking.failure(url=server.url + path, pagination=rules)
    assert error.code == "pagination_invalid" and said in str(error)


def test_a_page_that_fails_fails_the_step(asking: Asking, server: Server) -> None:
    error = asking.failure(url=f"{server.url}/breaks", pagination={"type": "page", "path": "data.items"})
    assert (error.code, error.retry_after_seconds) == ("http_status", 7) and len(server.asked) == 2


def test_a_link_to_another_host_gets_no_credential(asking: Asking, server: Server) -> None:
    there = f"{server.on('127.0.0.2')}/echo"
    result = asking.run(
        url=f"{server.url}/away",
        params={"to": there},
        auth="api",
        headers={"Cookie": "a=b", "X-Own": "1", "Accept": "application/json"},
        pagination={"type": "link"},
    )
    first, second = server.asked
    assert first.headers["authorization"] == "Bearer t0ken-value" and first.headers["x-own"] == "1"
    assert second.headers["host"].startswith("127.0.0.2") and second.headers["accept"] == "application/json"
    assert not {"authorization", "cookie", "x-own"} & second.headers.keys()
    assert result["data"][0] == 1


def test_a_link_on_the_same_host_keeps_the_credential(asking: Asking, server: Server) -> None:
    asking.run(url=f"{server.url}/link", auth="api", pagination={"type": "link"})
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer t0ken-value"}


@pytest.mark.parametrize(
    "link", ["http://10.0.0.1/x", "http://169.254.169.254/", "file:///etc/passwd", "http://[::1]:1/"]
)
def test_a_link_leads_nowhere_that_a_step_may_not_go(asking: Asking, server: Server, link: str) -> None:
    error = asking.failure(url=f"{server.url}/away", params={"to": link}, pagination={"type": "link"})
    assert error.code == "http_connection"


def test_a_body_does_not_follow_to_another_host(asking: Asking, server: Server) -> None:
    there = f"{server.on('127.0.0.2')}/echo"
    error = asking.failure(
        url=f"{server.url}/away", method="POST", json={"a": 1}, params={"to": there}, pagination={"type": "link"}
    )
    assert "not sent the body" in str(error) and len(server.asked) == 1


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"type": "pages"},
        {"type": "cursor"},
        {"type": "page", "cursor_path": "data.x"},
        {"type": "page", "link_path": "data.x"},
        {"type": "link", "param": "x"},
        {"type": "link", "start": 1},
        {"type": "page", "max_pages": 0},
        {"type": "page", "max_items": 3, "merge": "append"},
        {"type": "page", "in": "body"},
        {"type": "page", "colour": "red"},
    ],
)
def test_its_arguments_are_checked(asking: Asking, rules: dict[str, Any]) -> None:
    assert asking.failure(url="http://127.0.0.1:1/", pagination=rules).code == "arguments_invalid"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", {"a": [1, {"b": 2}], "headers": {"X-A": 1}}),
        ("a.0", 1),
        ("a.-1.b", 2),
        ("a.2", NOTHING),
        ("a.-3", NOTHING),
        ("a.b", NOTHING),
        ("a.0.c", NOTHING),
        ("headers.x-a", 1),
        ("A", NOTHING),
    ],
)
def test_paths(path: str, value: Any) -> None:
    found = value_at({"a": [1, {"b": 2}], "headers": {"X-A": 1}}, path)
    assert found is value if value is NOTHING else found == value
