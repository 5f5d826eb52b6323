"""The log of an execution over the API: read in pages, and written by workers elsewhere under their lease."""

from __future__ import annotations

from typing import Any

import pytest

from executions.api import query_log
from executors.selectors import find_violations
from queueing.models import Job
from tests.support.api import Api, admin_api, api_as
from tests.support.books import FAN

pytestmark = pytest.mark.usefixtures("fresh_db")

AT = "2026-01-02T03:04:05Z"


@pytest.fixture
def admin() -> Api:
    return admin_api()


@pytest.fixture
def worker() -> Api:
    return api_as("worker")


@pytest.fixture(autouse=True)
def nothing_violated(fresh_db: None) -> Any:
    yield
    assert find_violations() == []


def lines(*texts: str) -> list[dict[str, str]]:
    return [{"timestamp": AT, "stream": "printed", "level": "info", "text": text} for text in texts]


def claim(job: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"lease_token": job["lease_token"], **more}


def test_lines_are_sent_while_a_job_runs_and_with_its_result(admin: Api, worker: Api) -> None:
    execution_id = admin.run(FAN)
    job = worker.lease()
    assert worker.post(f"queue/{job['id']}/log", claim(job, log=lines("first", " ", ""))).status_code == 200
    done = worker.post(f"queue/{job['id']}/complete", claim(job, result=1, log=lines("last")))
    assert done.json()["judgement"] == "accepted"
    failing = worker.lease()
    worker.post(f"queue/{failing['id']}/fail", claim(failing, error="broken", retry=False, log=lines("bad")))
    told = admin.get(f"executions/{execution_id}/logs").json()
    assert [line["text"] for line in told["lines"]] == ["first", " ", "", "last", "bad"]
    assert told["dropped"] == 0
    assert told["lines"][0] == {
        "seq": 1, "timestamp": AT, "node_id": f"{execution_id}:each:0", "step": "each", "attempt": 1, "index": 0,
        "stream": "printed", "level": "info", "text": "first",
    }  # fmt: skip


def test_pages_follow_one_another_and_a_step_is_chosen(admin: Api, worker: Api) -> None:
    execution_id = admin.run(FAN)
    job = worker.lease()
    worker.post(f"queue/{job['id']}/log", claim(job, log=lines(*"abcde")))
    place, seen = f"executions/{execution_id}/logs?limit=2", []
    while place:
        page = admin.client.get(place if place.startswith("http") else f"/api/{place}")
        seen.append([line["text"] for line in page.json()["lines"]])
        place = page.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    assert [line["seq"] for line in admin.get("executions/@latest/logs", after=3).json()["lines"]] == [4, 5]
    assert len(admin.get("executions/@latest/logs", step="each").json()["lines"]) == 5
    assert admin.get("executions/@latest/logs", step="other").json()["lines"] == []
    assert admin.get("executions/1/logs").status_code == 404
    assert admin.get("executions/@latest/logs", limit=0).status_code == 400


def test_a_lost_lease_logs_nothing(admin: Api, worker: Api) -> None:
    execution_id = admin.run(FAN)
    job = worker.lease()
    stranger = api_as("worker", name="another")
    assert stranger.post(f"queue/{job['id']}/log", claim(job, log=lines("stolen"))).status_code == 409
    worker.post(f"queue/{job['id']}/release", claim(job))
    assert worker.post(f"queue/{job['id']}/log", claim(job, log=lines("late"))).status_code == 409
    assert worker.post(f"queue/{job['id']}/complete", claim(job, log=lines("late"))).status_code == 409
    assert not query_log(execution_id).exists()


def test_a_job_by_hand_that_gets_another_try_keeps_its_log(admin: Api, worker: Api) -> None:
    execution_id = admin.run(FAN)
    by_hand = {"execution_id": execution_id, "node_id": "hand", "action": {"type": "python"}, "max_attempts": 2}
    assert admin.post("queue/enqueue", {**by_hand, "pool": "hands"}).json()["id"]
    for attempt, answered in enumerate(("queued", "accepted"), 1):
        job = worker.lease(pools=["hands"])
        failed = claim(job, error="no", retry_delay_seconds=0, log=lines(f"try {attempt}"))
        assert worker.post(f"queue/{job['id']}/fail", failed).json()["judgement"] == answered
        assert worker.post(f"queue/{job['id']}/fail", failed).status_code == (409 if attempt == 1 else 200)
    assert [(row.attempt, row.text) for row in query_log(execution_id)] == [(1, "try 1"), (2, "try 2")]
    assert Job.objects.get(node_id="hand").status in ("failed", "dead")


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a\x00b", "a\ufffdb"), ("\ud800", "?"), ("\u2028 \u202e", "\u2028 \u202e"), ("{{ 1 }}", "{{ 1 }}")],
)
def test_what_a_worker_says_is_stored_as_far_as_it_can_be(admin: Api, worker: Api, text: str, stored: str) -> None:
    execution_id = admin.run(FAN)
    job = worker.lease()
    assert worker.post(f"queue/{job['id']}/log", claim(job, log=lines(text))).status_code == 200
    assert query_log(execution_id).get().text == stored


@pytest.mark.parametrize(
    "log",
    [None, "text", [1], [{}], [{"text": "x"}], [{"timestamp": "soon", "text": "x"}],
     [{"timestamp": AT, "text": "x", "level": "loud"}], [{"timestamp": AT, "text": ["x"]}],
     [{"timestamp": AT, "text": "x" * (1 << 20) + "x"}]],
)  # fmt: skip
def test_what_is_no_log_is_refused(admin: Api, worker: Api, log: Any) -> None:
    admin.run(FAN)
    job = worker.lease()
    assert worker.post(f"queue/{job['id']}/log", claim(job, log=log)).status_code == 400
    assert worker.post(f"queue/{job['id']}/complete", claim(job, log=log)).status_code == 400


def test_the_log_needs_its_own_permission(admin: Api, worker: Api) -> None:
    execution_id = admin.run(FAN)
    assert worker.get(f"executions/{execution_id}/logs").status_code == 403
    assert Api().get(f"executions/{execution_id}/logs").status_code == 401
    assert api_as("viewer").get(f"executions/{execution_id}/logs").status_code == 200
