"""What the API makes of requests that are wrong, odd or large: a problem document, never a 500."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.management import call_command

from tests.support.api import Api, admin_api
from tests.support.books import CHAIN, FAN
from tests.support.platform import ROOT

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def api() -> Api:
    return admin_api()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid"),
        (b"{", 400, "parse_error"),
        (b"[]", 400, "invalid"),
        (b'"text"', 400, "invalid"),
        (b"null", 400, "invalid"),
        (b"\xff\xfe", 400, "parse_error"),
        (b"[" * 100_000, 400, "parse_error"),
        (b'{"path": NaN}', 400, "parse_error"),
        (b'{"path": "a", "parameters": ' + b"1" * 5000 + b"}", 400, "parse_error"),
        (b'{"path": "a\\u0000"}', 400, "invalid"),
        (b'{"path": "\\ud800"}', 400, "invalid"),
        (b'{"path": {"a": 1}}', 400, "invalid"),
        (b'{"path": ""}', 400, "invalid"),
        (b'{"path": "a", "playbook_id": "b"}', 400, "invalid"),
        (b'{"path": "a", "parameters": {}, "input_payload": {}}', 400, "invalid"),
        (b'{"path": "no/such"}', 404, "playbook_not_found"),
        (b'{"path": "tests/chain", "version": "9.9.9"}', 404, "playbook_not_found"),
        (b'{"path": "tests/chain", "version": "\\u0001"}', 404, "playbook_not_found"),
        (b'{"path": "tests/chain", "parameters": [1]}', 422, "workload_invalid"),
        (b'{"path": "tests/chain", "parameters": {"n": "nul \\u0000"}}', 422, "workload_invalid"),
        (b'{"path": "tests/chain", "parameters": {"n": 1e999}}', 400, "invalid"),
    ],
)
def test_a_wrong_start_is_refused_and_starts_nothing(api: Api, body: bytes, status: int, code: str) -> None:
    api.post("catalog/register", {"content": CHAIN})
    answer = api.send("POST", "executions/run", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail"} <= answer.json().keys()
    assert api.get("executions").json() == []


def test_a_body_past_the_limit_is_413(api: Api, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = api.send("POST", "executions/run", b'{"path": "' + b"a" * 2000 + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_another_media_type_is_415_another_method_405_and_an_unknown_address_404(api: Api) -> None:
    assert api.send("POST", "executions/run", b"a=1", "application/x-www-form-urlencoded").status_code == 415
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = api.send(method, "executions/run")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), method
    unknown = api.get("nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert unknown["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("id_", ["0", "x", "1e5", "-1", "9" * 19, "9" * 40, "٣", "%00"])
def test_an_id_that_is_none_is_404(api: Api, id_: str) -> None:
    for path in (f"executions/{id_}", f"events/by-execution/{id_}", f"events/by-id/{id_}", f"events/{id_}"):
        answer = api.get(path)
        assert answer.status_code == 404, (path, answer.content)


def test_a_broken_playbook_is_refused_with_every_place(api: Api) -> None:
    text = CHAIN.replace("next: one", "next: nowhere").replace("type: python", "type: pythn")
    answer = api.post("catalog/register", {"content": text})
    assert (answer.status_code, answer.json()["code"]) == (422, "playbook_invalid")
    errors = answer.json()["errors"]
    assert {error["code"] for error in errors} >= {"unknown_target", "unknown_type"}
    assert all(error["line"] > 0 and error["column"] > 0 and error["detail"] for error in errors)
    judged = api.post("catalog/playbooks/validate", {"content": text}).json()
    assert judged["valid"] is False and len(judged["errors"]) == len(errors)
    assert api.post("catalog/playbooks/validate", {"content": CHAIN}).json() == {"valid": True, "errors": []}


@pytest.mark.parametrize(
    "body",
    [{}, {"content": CHAIN, "content_base64": "eA=="}, {"content_base64": "%"}, {"content_base64": "/w=="},
     {"content": CHAIN, "resource_type": "widget"}, {"content": "a\x00"}],
)  # fmt: skip
def test_a_wrong_registration_is_refused(api: Api, body: Any) -> None:
    assert api.post("catalog/register", body).status_code == 400
    assert api.get("playbooks").json() == []


def test_registering_the_same_text_makes_no_version(api: Api) -> None:
    first = api.post("catalog/register", {"content": CHAIN})
    again = api.post("catalog/register", {"content": CHAIN})
    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (again.status_code, again.json()["created"]) == (200, False)
    changed = api.post("catalog/register?resource_type=Playbook", {"content": CHAIN.replace("n * 10", "n * 9")})
    assert changed.json()["resource_version"] == "0.1.1"
    versions = api.get("catalog/list").json()["entries"]
    assert [entry["resource_version"] for entry in versions] == ["0.1.1", "0.1.0"]
    assert api.get("catalog/list", resource_type="widget").json() == {"entries": []}
    assert api.get("catalog/tests/chain/0.1.0").json()["content"] == CHAIN
    assert api.get("catalog/tests/chain/latest").json()["resource_version"] == "0.1.1"
    assert api.get("catalog/playbooks/tests/chain:0.1.0/content").json() == {"content": CHAIN}
    assert api.get("catalog/playbooks/content", playbook_id="playbooks/tests/chain").status_code == 200
    assert [book["id"] for book in api.get("playbooks").json()] == ["tests/chain"]


def test_one_key_starts_once(api: Api) -> None:
    api.post("catalog/register", {"content": CHAIN})

    def run(key: str, **parameters: Any) -> Any:
        body = {"path": "tests/chain", "parameters": parameters}
        return api.client.post("/api/executions/run", body, format="json", HTTP_IDEMPOTENCY_KEY=key)

    first = run("k", n=1)
    assert first.status_code == 201
    assert first["Location"].endswith(f"/api/executions/{first.json()['id']}")
    assert run("k", n=1).json()["id"] == first.json()["id"]
    conflict = run("k", n=2)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "start_conflict")
    assert run("x" * 201).status_code == 400
    assert len(api.get("executions").json()) == 1


@pytest.mark.parametrize(
    "place",
    ["queue?worker_id=%00", "executions?path=%00", "catalog/list?path=%00", "worker/pools?runtime=%00",
     "runtime?runtime=%00", "executions?status=%00", "events/by-execution/@latest?after=1" + "9" * 30,
     "catalog/playbook?playbook_id=%00"],
)  # fmt: skip
def test_a_query_that_no_column_can_hold_is_400(api: Api, place: str) -> None:
    api.run()
    assert api.get(place).status_code == 400


@pytest.mark.parametrize("cursor", ["cD1hYmM=", "cD0lMDA=", "cD0tMQ==", "cD0x" + "OTk5" * 9])
def test_a_cursor_that_is_none_of_ours_is_404(api: Api, cursor: str) -> None:
    assert api.get("executions", cursor=cursor).status_code == 404


def test_a_refusal_can_be_sent_whatever_it_quotes(api: Api) -> None:
    answer = api.post("worker/pool/register", {"name": "x", "runtime": "\ud800", "base_url": "http://x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/runtime")
    assert api.get("schema", version="\x00").status_code == 200


def test_a_body_that_is_no_map_is_refused(api: Api) -> None:
    for body in (b"[]", b"0", b'""', b"false"):
        assert api.send("POST", "queue/1/complete", body).status_code == 400


def test_a_body_without_a_length_is_refused(api: Api) -> None:
    answer = api.client.generic("POST", "/api/queue/lease", "", HTTP_TRANSFER_ENCODING="chunked")
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


def test_a_path_may_begin_as_the_originals_ids_do(api: Api) -> None:
    for path in ("playbooks/tests/chain", "tests/chain"):
        api.post("catalog/register", {"content": CHAIN.replace("tests/chain", path)})
    for asked, found in (
        ("playbooks/tests/chain", "playbooks/tests/chain"),
        ("playbooks/tests/chain:0.1.0", "playbooks/tests/chain"),
        ("tests/chain", "tests/chain"),
    ):
        assert api.get("catalog/playbook", playbook_id=asked).json()["id"] == found
        started = api.post("executions/run", {"playbook_id": asked})
        assert started.json()["playbook_id"] == found
    for path in ("../up", "a/./b", "a/.."):
        assert api.post("catalog/register", {"content": CHAIN.replace("tests/chain", path)}).status_code == 422


def test_lists_are_paged_by_links(api: Api) -> None:
    ids = [api.run() for _ in range(5)]
    page = api.get("executions", limit=2, status="running")
    assert [execution["id"] for execution in page.json()] == ids[:2:-1]
    found = [execution["id"] for execution in page.json()]
    while "Link" in page and 'rel="next"' in page["Link"]:
        links = {part.split("; ")[1]: part.split("; ")[0].strip("<>") for part in page["Link"].split(", ")}
        page = api.client.get(links['rel="next"'])
        found += [execution["id"] for execution in page.json()]
    assert found == ids[::-1]
    assert api.get("executions", status="nonsense").status_code == 400
    assert api.get("executions", cursor="nonsense").status_code == 404
    assert len(api.get("executions", path="tests/chain").json()) == 5
    assert api.get("executions", path="other").json() == []


def test_events_are_read_in_pieces(api: Api) -> None:
    execution_id = api.run(FAN)
    everything = api.get(f"events/by-execution/{execution_id}").json()["events"]
    pieces: list[Any] = []
    page = api.get(f"events/by-execution/{execution_id}", limit=4)
    while True:
        pieces += page.json()["events"]
        if "Link" not in page:
            break
        page = api.client.get(page["Link"].split(";")[0].strip("<>"))
    assert pieces == everything
    assert [event["seq"] for event in everything] == list(range(1, len(everything) + 1))
    by_id = api.get(f"events/{everything[0]['event_id']}").json()["events"]
    assert by_id == [everything[0]] == api.get(f"events/by-id/{everything[0]['event_id']}").json()["events"]
    assert api.get(f"events/{execution_id}").json()["events"] == everything
    assert api.get(f"events/by-execution/{execution_id}", after="x").status_code == 400


def test_the_checked_in_openapi_document_is_what_the_code_says(tmp_path: Any) -> None:
    call_command("spectacular", file=str(tmp_path / "openapi.yaml"), validate=True, fail_on_warn=True)
    made, kept = (tmp_path / "openapi.yaml").read_text(), (ROOT / "docs" / "openapi.yaml").read_text()
    assert made == kept, "run `make openapi`"


def test_the_document_and_its_pages_come_from_here_alone(api: Api) -> None:
    assert api.get("schema").status_code == 200
    page = api.get("docs").content.decode()
    assert "swagger-ui" in page
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page)
