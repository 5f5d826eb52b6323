"""The storages `http` and `python` of `save`: their kinds do the work, with a real server and child."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from executors.actions.save.kind import SaveAction
from executors.contract import ActionFailed, ActionKind, ActionRequest, Credential, Outcome
from executors.registry import build_registry
from executors.running import Lent, run_action
from tests.support.answering import Answer, Asked, Server, answering
from tests.support.kinds import settings_with

CREDENTIALS: Final = {
    "bearer": Credential("bearer", "bearer", {"token": "t0ken-of-the-save"}),
    "client": Credential("client", "oauth2", {"client_id": "me", "client_secret": "cl1ent-s3cret"}),
    "database": Credential("database", "postgres", {"password": "p4ssword-of-it"}),
}


@pytest.fixture(scope="module")
def kinds() -> Iterator[dict[str, ActionKind]]:
    registry = build_registry(settings_with(NOETL_HTTP_ALLOWED_NETWORKS=("127.0.0.1/32",)))
    yield registry
    for kind in registry.values():
        kind.close()


@pytest.fixture
def server() -> Iterator[Server]:
    def answer(asked: Asked) -> Answer:
        if asked.path == "/token":
            return Answer({"access_token": "fr3sh-access-token", "expires_in": 60})
        if asked.path == "/busy":
            return Answer({"detail": "later"}, 429, {"Retry-After": "7"})
        if asked.path == "/leads":
            return Answer({}, 307, {"Location": "/rows"})
        if asked.path == "/third" and len(running.asked) == 3:
            return Answer({"detail": "no more"}, 507)
        return Answer({"id": len(running.asked)}, 201)

    with answering(answer) as running:
        yield running


def lent(*, cancelled: bool = False) -> Lent:
    stop = threading.Event()
    if cancelled:
        stop.set()
    return Lent(Path(), stop, CREDENTIALS.__getitem__)


def request(storage: str, timeout: float = 20, **arguments: Any) -> ActionRequest:
    given = {"storage": storage, **arguments}
    return ActionRequest("save", given, {}, "e1", "e1:s#save", "s", 1, "e1:s#save", timeout)


Save = Callable[..., Any]


@pytest.fixture
def save(kinds: dict[str, ActionKind]) -> Save:
    return lambda storage, **arguments: kinds["save"].run(request(storage, **arguments), lent())


def failure(kinds: dict[str, ActionKind], storage: str, **arguments: Any) -> ActionFailed:
    with pytest.raises(ActionFailed) as failed:
        kinds["save"].run(request(storage, **arguments), lent())
    return failed.value


def sent(server: Server) -> list[tuple[str | None, Any]]:
    return [(asked.headers.get("idempotency-key"), json.loads(asked.body)) for asked in server.asked]


# -- http --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"a": 1}, [1, 2], "text", "7", 7, None, {}, [], False])
def test_data_is_sent_as_it_is(save: Save, server: Server, data: Any) -> None:
    told = save("http", data=data, spec={"url": f"{server.url}/rows"})
    rows = len(data) if isinstance(data, list) else 1
    assert told == {"saved": "http", "rows": rows, "requests": 1, "status_code": 201}
    assert sent(server) == [("e1:s#save", data)]
    assert (server.asked[0].method, server.asked[0].headers["content-type"]) == ("POST", "application/json")


def test_rows_are_sent_so_many_at_a_time_each_request_with_its_own_key(save: Save, server: Server) -> None:
    spec = {"url": f"{server.url}/rows", "method": "PATCH", "params": {"of": "shop"}, "headers": {"X-Own": "1"}}
    told = save("http", data=[{"n": 1}, [{"n": 2}, {"n": 3}]], of_items=True, chunk_size=2, spec=spec)
    assert (told["rows"], told["requests"]) == (3, 2)
    assert sent(server) == [
        ("e1:s#save/batch-1", [{"n": 1}, {"n": 2}]),
        ("e1:s#save/batch-2", [{"n": 3}]),
    ]
    assert {(asked.method, asked.said["of"], asked.headers["x-own"]) for asked in server.asked} == {
        ("PATCH", "shop", "1")
    }


def test_items_go_as_one_list_and_rows_one_by_one_as_they_are(save: Save, server: Server) -> None:
    save("http", data=[1, [2, 3]], of_items=True, spec={"url": f"{server.url}/rows"})
    save("http", data=[4, 5], chunk_size=1, spec={"url": f"{server.url}/rows"})
    assert [body for _, body in sent(server)] == [[1, 2, 3], 4, 5]


def test_no_rows_in_batches_are_no_requests(save: Save, server: Server) -> None:
    assert save("http", data=[], chunk_size=10, spec={"url": f"{server.url}/rows"}) == {
        "saved": "http", "rows": 0, "requests": 0,
    }  # fmt: skip
    assert server.asked == []


def test_a_credential_adds_its_header_and_does_not_come_out(kinds: dict[str, ActionKind], server: Server) -> None:
    spec = {"url": f"{server.url}/rows"}
    outcome = run_action(kinds, request("http", data={"n": 1}, auth="bearer", spec=spec), lent())
    assert outcome.status == "success", outcome
    assert server.asked[0].headers["authorization"] == "Bearer t0ken-of-the-save"
    assert "t0ken" not in str(outcome)


def test_a_client_gets_its_token_as_in_an_http_step(kinds: dict[str, ActionKind], server: Server) -> None:
    client = CREDENTIALS["client"]
    told = {**client.data, "token_url": f"{server.url}/token"}
    with_token = Lent(Path(), threading.Event(), lambda name: Credential(name, client.type, told))
    asked = request("http", data=1, auth="client", spec={"url": f"{server.url}/rows"})
    assert run_action(kinds, asked, with_token).status == "success"
    assert [asked.path for asked in server.asked] == ["/token", "/rows"]
    assert server.asked[1].headers["authorization"] == "Bearer fr3sh-access-token"


def test_a_failure_tells_how_much_was_saved_before_it(kinds: dict[str, ActionKind], server: Server) -> None:
    failed = failure(kinds, "http", data=[1, 2, 3, 4, 5], chunk_size=2, spec={"url": f"{server.url}/third"})
    assert (failed.code, str(failed)) == (
        "http_status",
        "4 rows were saved before it failed: HTTP 507: Insufficient Storage",
    )
    assert failed.data["data"] == {"detail": "no more"}
    assert len(server.asked) == 3


def test_replies_are_not_kept(kinds: dict[str, ActionKind]) -> None:
    rows, size = 20, 1_000_000
    with answering(lambda asked: Answer("x" * size)) as server:
        asked = request("http", data=list(range(rows)), chunk_size=1, spec={"url": f"{server.url}/rows"})
        tracemalloc.start()
        try:
            kinds["save"].run(asked, lent())
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < rows * size / 2


def test_many_requests_have_one_log_which_is_short(kinds: dict[str, ActionKind], server: Server) -> None:
    lending = lent()
    spec = {"url": f"{server.url}/rows"}
    kinds["save"].run(request("http", data=list(range(50)), chunk_size=1, spec=spec), lending)
    told = [line.text for line in lending.lines.take()]
    assert len(server.asked) == 50 and len(told) < 30
    assert "lines before it were left out" in told[-1]


def test_what_the_server_asks_for_reaches_retry(kinds: dict[str, ActionKind], server: Server) -> None:
    failed = failure(kinds, "http", data=1, spec={"url": f"{server.url}/busy"})
    assert (failed.code, failed.retry_after_seconds) == ("http_status", 7)


def test_no_redirect_is_followed(kinds: dict[str, ActionKind], server: Server) -> None:
    assert failure(kinds, "http", data=1, spec={"url": f"{server.url}/leads"}).code == "http_status"
    assert [asked.path for asked in server.asked] == ["/leads"]


def test_addresses_are_those_of_http_steps(kinds: dict[str, ActionKind], server: Server) -> None:
    failed = failure(kinds, "http", data=1, spec={"url": f"{server.on('127.0.0.2')}/rows"})
    assert failed.code == "http_connection" and "NOETL_HTTP_ALLOWED_NETWORKS" in str(failed)
    assert server.asked == []


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "arguments_invalid", "spec: url: Field required"),
    ({"spec": {"url": "https://shop.example", "body": 1}}, "arguments_invalid", "spec: body"),
    ({"spec": {"url": "https://shop.example", "method": "GET"}}, "arguments_invalid", "spec: method"),
    ({"spec": {"url": "file:///etc/passwd"}}, "arguments_invalid", "whole http or https"),
    ({"spec": {"url": "https://a:b@shop.example"}}, "arguments_invalid", "no user and password"),
    ({"spec": {"url": "https://shop.example"}, "auth": "database"}, "credential_invalid", "makes no header of http"),
    (
        {"spec": {"url": "https://shop.example", "headers": {"idempotency-KEY": "k"}}, "chunk_size": 5},
        "arguments_invalid",
        "Idempotency-Key",
    ),
    (
        {"spec": {"url": "https://shop.example", "headers": {"Idempotency-Key": "k"}}, "of_items": True},
        "arguments_invalid",
        "Idempotency-Key",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "told"), REFUSED)
def test_what_makes_no_request_is_refused(
    kinds: dict[str, ActionKind], arguments: dict[str, Any], code: str, told: str
) -> None:
    failed = failure(kinds, "http", data=[1], **arguments)
    assert failed.code == code and told in str(failed)
    assert "p4ssword" not in str(failed)


# -- python ------------------------------------------------------------------------------------------


def test_code_gets_data_rows_and_what_spec_adds(save: Save) -> None:
    code = "def main(data, rows, shop): return [data, rows, shop, context['effect_key']]"
    assert save("python", data={"n": 1}, code=code, spec={"with": {"shop": "north"}}) == {
        "saved": "python", "rows": 1, "data": [{"n": 1}, [{"n": 1}], "north", "e1:s#save"],
    }  # fmt: skip
    assert save("python", data=[1, [2, 3]], of_items=True, code="def main(rows): return sum(rows)")["data"] == 6
    assert save("python", data=[1, 2], code="def main(everything): return everything")["data"] == {
        "data": [1, 2], "rows": [1, 2],
    }  # fmt: skip


def test_code_is_called_with_so_many_rows_at_a_time(save: Save) -> None:
    code = "def main(data, rows): return [data, rows, context['effect_key']]"
    assert save("python", data=[1, 2, 3], code=code, chunk_size=2)["data"] == [
        [[1, 2], [1, 2], "e1:s#save/batch-1"],
        [[3], [3], "e1:s#save/batch-2"],
    ]
    assert save("python", data=[1], code=code, chunk_size=1)["data"] == [[1, [1], "e1:s#save/batch-1"]]


def test_what_code_prints_is_logged_and_secrets_are_hidden(kinds: dict[str, ActionKind]) -> None:
    code = "def main(data, key):\n    print(f'kept {data} with {key}')\n    return key"
    asked = request("python", data=1, code=code, spec={"with": {"key": "⟦secret:bearer⟧"}})
    lending = Lent(Path(), threading.Event(), lambda name: Credential(name, "generic", {"value": "t0ken-of-the-save"}))
    outcome = run_action(kinds, asked, lending, {"secrets": {"/arguments/spec/with/key": ["bearer"]}})
    assert outcome == Outcome("success", {"saved": "python", "rows": 1, "data": "***"})
    assert [line.text for line in lending.lines.take()] == ["kept 1 with ***"]


def test_a_failure_of_code_is_that_of_a_python_step(kinds: dict[str, ActionKind]) -> None:
    code = "def main(rows):\n    if rows == [3]:\n        raise ValueError('no shelf')"
    failed = failure(kinds, "python", data=[1, 2, 3], code=code, chunk_size=2)
    assert (failed.code, str(failed)) == ("python_error", "2 rows were saved before it failed: ValueError: no shelf")
    assert "line 3, in main" in failed.traceback
    assert failure(kinds, "python", data=1, code="def other(): pass").code == "code_invalid"
    assert failure(kinds, "python", data=1).code == "arguments_invalid"
    named = failure(kinds, "python", data=1, code="def main(): pass", spec={"with": {"rows": 1}})
    assert named.code == "arguments_invalid" and "rows is what is saved" in str(named)


def test_code_is_kept_apart_as_the_worker_says() -> None:
    kinds = build_registry(settings_with(NOETL_PYTHON_ISOLATION_LEAST="job"))
    try:
        spec = {"isolation": "turn"}
        assert failure(kinds, "python", data=1, code="def main(): pass", spec=spec).code == "isolation_refused"
    finally:
        for kind in kinds.values():
            kind.close()


def test_its_time_is_that_of_all_calls_together(kinds: dict[str, ActionKind]) -> None:
    code = "def main(data):\n    while data > 1: pass"
    failed = failure(kinds, "python", data=[1, 2], code=code, chunk_size=1, timeout=1)
    assert failed.code == "timeout" and str(failed).startswith("1 rows were saved")


def test_a_save_that_is_cancelled_ends(kinds: dict[str, ActionKind]) -> None:
    outcome = run_action(kinds, request("python", data=1, code="def main(): return 1"), lent(cancelled=True))
    assert outcome.code == "cancelled"


@pytest.mark.parametrize("storage", ["http", "python"])
def test_without_the_kind_there_is_no_storage(storage: str) -> None:
    spec = {"url": "https://shop.example"} if storage == "http" else {}
    with pytest.raises(ActionFailed) as failed:
        SaveAction.build(settings_with()).run(request(storage, data=1, code="def main(): pass", spec=spec), lent())
    assert failed.value.code == "storage_unavailable"
