"""Worker pools and other components: announced, heard of, gone, and nobody else's."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from executors.models import Runtime
from executors.worker.presence import Component, announce, find_live, find_unserved_pools
from tests.support.api import Api, admin_api, api_as

pytestmark = pytest.mark.usefixtures("fresh_db")


@pytest.fixture
def admin() -> Api:
    return admin_api()


@pytest.fixture
def worker() -> Api:
    return api_as("worker")


def test_pools_and_components_come_and_go(admin: Api, worker: Api) -> None:
    pool = {"name": "p1", "runtime": "cpu", "base_url": "http://x", "capacity": 2, "labels": {"a": 1}, "pid": 1}
    assert worker.post("worker/pool/heartbeat", {"name": "p1"}).json() == {"status": "unknown", "name": "p1"}
    told = worker.post("worker/pool/register", pool).json()
    assert (told["status"], told["name"], told["runtime"]) == ("ok", "p1", "cpu") and told["runtime_id"]
    assert worker.post("worker/pool/register", pool).json()["runtime_id"] == told["runtime_id"]
    assert worker.post("worker/pool/heartbeat", {"name": "p1"}).json() == {"status": "ok", "name": "p1"}
    assert worker.post("worker/pool/heartbeat", {}).json() == {"status": "ok", "name": None}
    listed = admin.get("worker/pools", runtime="cpu").json()
    assert (listed["count"], listed["items"][0]["name"], listed["items"][0]["runtime"]) == (1, "p1", "cpu")
    assert admin.get("worker/pools", runtime="gpu").json()["count"] == 0
    gone = worker.client.delete("/api/worker/pool/deregister", {"name": "p1"}, format="json").json()
    assert gone == {"status": "ok", "name": "p1"}
    assert admin.get("worker/pools", status="ready").json()["count"] == 0
    server = {"name": "s1", "base_url": "http://y"}
    assert admin.post("runtime/register", server).json()["component_type"] == "server_api"
    assert admin.post("runtime/heartbeat", {"name": "s1"}).json() == {"status": "ok", "name": "s1"}
    assert admin.post("runtime/deregister", {"name": "s1"}).json() == {
        "status": "ok", "name": "s1", "component_type": "server_api",
    }  # fmt: skip
    assert {item["name"] for item in admin.get("runtime").json()["items"]} == {"p1", "s1"}
    for wrong in ({**pool, "runtime": "abacus"}, {"name": "x"}, {**pool, "labels": "nul \x00"}):
        assert worker.post("worker/pool/register", wrong).status_code == 400


@pytest.mark.parametrize("labels", [["gpu"], "gpu", 5, {"queues": 5}, {"queues": "default"}, {"queues": None}])
def test_labels_of_any_shape_serve_no_pool(admin: Api, worker: Api, labels: Any) -> None:
    admin.run()
    pool = {"name": "p1", "runtime": "gpu", "base_url": "http://x", "labels": labels}
    assert worker.post("worker/pool/register", pool).status_code == 200
    assert find_unserved_pools(0) == {"default": 1}


def test_nobody_takes_over_a_component_that_another_announced(admin: Api, worker: Api) -> None:
    announce(Component("ours", Runtime.ComponentType.WORKER_POOL))
    other = api_as("worker", name="other")
    pool = {"name": "theirs", "runtime": "cpu", "base_url": "http://x"}
    other.post("worker/pool/register", pool)
    for name in ("ours", "theirs"):
        taken = worker.post("worker/pool/register", {**pool, "name": name})
        assert (taken.status_code, taken.json()["code"]) == (409, "component_taken")
        assert worker.post("worker/pool/heartbeat", {"name": name}).json()["status"] == "unknown"
        worker.post("worker/pool/deregister", {"name": name})
    assert set(Runtime.objects.values_list("status", flat=True)) == {"ready"}
    own = {"started_at": "abc", "type": "x"}
    worker.post("worker/pool/register", {**pool, "name": "mine", "hostname": socket.gethostname(), "meta": own})
    assert {row.name for row in find_live("worker_pool")} == {"ours", "theirs", "mine"}
