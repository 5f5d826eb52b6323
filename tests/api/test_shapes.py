"""Requests and replies have the keys of NoETL's own, so that its clients and workers work here.

The table is written from the reference of the original's API: what a client sends, and what it finds in the reply.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import pytest

from tests.support.api import Api, admin_api
from tests.support.books import CHAIN

pytestmark = pytest.mark.usefixtures("db")

QUEUE_COLUMNS: Final = (
    "id execution_id node_id action context status priority attempts max_attempts available_at lease_until worker_id "
    "last_heartbeat created_at updated_at"
)
EVENT: Final = (
    "event_id event_type node_id node_name node_type status normalized_status duration timestamp context input_context "
    "result output_result metadata error execution_id resource_path resource_version"
)
EXECUTION: Final = "id playbook_id playbook_name status start_time end_time duration progress result error"
SUMMARY: Final = (
    "id name resource_type resource_version meta timestamp description created_at updated_at status tasks_count"
)

# method, path, request, reply; `.key` and `[].key` lead into the reply. {E}: execution, {J}: a leased job, {V}: event.
TABLE: Final[list[tuple[str, str, dict[str, Any] | None, dict[str, str]]]] = [
    ("GET", "health", None, {"": "status"}),
    (
        "POST", "catalog/register", {"content_base64": "{B}", "resource_type": "Playbook"},
        {"": "status message resource_path resource_version resource_type"},
    ),
    (
        "GET", "catalog/list?resource_type=Playbook", None,
        {"": "entries",
         ".entries[]": "resource_path resource_type resource_version content payload meta timestamp"},
    ),
    ("GET", "playbooks", None, {"[]": SUMMARY}),
    ("GET", "catalog/playbooks", None, {"[]": SUMMARY}),
    ("POST", "catalog/playbooks/validate", {"content": "x"}, {"": "valid errors"}),
    ("GET", "catalog/playbooks/content?playbook_id=tests/chain", None, {"": "content"}),
    (
        "GET", "catalog/playbook?playbook_id=tests/chain", None,
        {"": "id name description created_at updated_at status tasks_count version"},
    ),
    (
        "POST", "executions/run", {"playbook_id": "tests/chain", "parameters": {}, "merge": False},
        {"": "id playbook_id playbook_name status start_time progress result",
         ".result": "status message result execution_id export_path", ".result.result": "status"},
    ),
    ("GET", "executions", None, {"[]": EXECUTION}),
    ("GET", "executions/{E}", None, {"": f"{EXECUTION} events", ".events[]": EVENT}),
    ("GET", "events/by-execution/{E}", None, {"": "events", ".events[]": EVENT}),
    ("GET", "events/by-id/{V}", None, {"": "events", ".events[]": EVENT}),
    ("GET", "events/{E}", None, {"": "events", ".events[]": EVENT}),
    (
        "POST", "events",
        {"execution_id": "{E}", "event_type": "note", "status": "DONE", "node_id": "x", "node_name": "x",
         "node_type": "event", "duration": 0.1, "context": {}, "result": None, "meta": {}, "error": None},
        {"": "event_id execution_id event_type status node_id node_name node_type duration context result error"},
    ),
    (
        "POST", "context/render",
        {"execution_id": "{E}", "template": {"work": {}, "task": {}}, "extra_context": {"env": {}, "job": {}},
         "strict": True},
        {"": "status rendered context_keys", ".rendered": "work task"},
    ),
    ("POST", "queue/lease", {"worker_id": "w", "lease_seconds": 60}, {"": "status job", ".job": QUEUE_COLUMNS}),
    ("POST", "queue/{J}/heartbeat", {"worker_id": "w", "extend_seconds": 30}, {"": "status id"}),
    ("POST", "queue/{J}/complete", {"result": {"n": 1}}, {"": "status id"}),
    ("POST", "queue/{K}/fail", {"retry_delay_seconds": 60, "retry": False}, {"": "status id"}),
    (
        "POST", "queue/enqueue",
        {"execution_id": "{E}", "node_id": "mine", "action": '{"type": "python"}', "input_context": {}, "priority": 0,
         "max_attempts": 5, "available_at": None},
        {"": "status id"},
    ),
    ("GET", "queue?status=queued&execution_id={E}&limit=100", None, {"": "status items", ".items[]": QUEUE_COLUMNS}),
    ("GET", "queue/size?status=queued", None, {"": "status count"}),
    ("POST", "queue/reap-expired", None, {"": "reclaimed"}),
    (
        "POST", "worker/pool/register",
        {"name": "p", "runtime": "cpu", "base_url": "http://x", "status": "ready", "capacity": 1, "labels": {},
         "pid": 1, "hostname": "h", "meta": {}},
        {"": "status name runtime runtime_id"},
    ),
    ("POST", "worker/pool/heartbeat", {"name": "p"}, {"": "status name"}),
    (
        "GET", "worker/pools?runtime=cpu&status=ready", None,
        {"": "items runtime status count",
         ".items[]": "name runtime status capacity labels last_heartbeat created_at updated_at"},
    ),
    ("DELETE", "worker/pool/deregister", {"name": "p"}, {"": "status name"}),
    (
        "POST", "runtime/register",
        {"name": "s", "component_type": "server_api", "base_url": "http://x", "runtime": None, "status": "ready",
         "capacity": None, "labels": None, "pid": 1, "hostname": "h", "meta": {}},
        {"": "status name component_type runtime_id"},
    ),
    ("DELETE", "runtime/deregister", {"name": "s", "component_type": "server_api"}, {"": "status name component_type"}),
    ("POST", "executions/{E}/cancel", {"reason": "enough"}, {"": "status"}),
]  # fmt: skip


@pytest.fixture
def api() -> Api:
    return admin_api()


def test_each_endpoint_takes_and_gives_the_originals_keys(api: Api) -> None:

    other, execution_id = api.run(), api.run()
    [event, *_] = api.get(f"events/by-execution/{execution_id}").json()["events"]
    second = api.lease("w")
    names = {
        "E": execution_id,
        "V": event["event_id"],
        "B": base64.b64encode(CHAIN.encode()).decode(),
        "K": second["id"],
    }
    assert second["execution_id"] == other
    for method, path, request, reply in TABLE:
        body = None if request is None else {key: put(value, names) for key, value in request.items()}
        answer = api.send(method, put(path, names), b"" if body is None else json.dumps(body).encode())
        assert answer.status_code in (200, 201), (method, path, answer.content)
        told = answer.json()
        for place, keys in reply.items():
            for found in follow(told, place):
                assert set(keys.split()) <= found.keys(), (method, path, place, set(keys.split()) - found.keys())
        if path == "queue/lease":
            names["J"] = told["job"]["id"]


def put(value: Any, names: dict[str, str]) -> Any:
    """A text with the names in it replaced."""
    if not isinstance(value, str) or value.startswith('{"'):
        return value
    for name, meant in names.items():
        value = value.replace(f"{{{name}}}", meant)
    return value


def follow(told: Any, place: str) -> list[Any]:
    """The maps that a place leads to."""
    found = [told]
    for part in place.replace("[]", ".[]").split("."):
        if part == "[]":
            found = [item for items in found for item in items]
            assert found
        elif part:
            found = [item[part] for item in found]
    return found


def test_an_empty_queue_says_so(api: Api) -> None:
    assert api.post("queue/lease", {"worker_id": "w", "lease_seconds": 60}).json() == {"status": "empty"}
    assert api.post("queue/lease", {}).status_code == 400
