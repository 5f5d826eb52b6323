"""Telling a running execution something over the API: pause, resume, signals, approvals; its children, its reruns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api, admin_api, api_as
from tests.support.books import CHAIN, work_off

pytestmark = pytest.mark.django_db

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: steered\npath: tests/steered\n"
SIGNAL = f"""{HEAD}workflow:
  - {{step: start, next: paid}}
  - {{step: paid, type: wait, for: signal payment, next: end}}
  - {{step: end, result: "{{{{ paid }}}}"}}
"""
APPROVAL = f"""{HEAD}workflow:
  - {{step: start, next: ask}}
  - {{step: ask, type: approval, message: "Ship it?", approvers: [test-author, operator], next: end}}
  - {{step: end, result: "{{{{ ask }}}}"}}
"""
PARENT = f"""{HEAD}workflow:
  - {{step: start, next: call}}
  - {{step: call, type: playbook, path: tests/chain, next: end}}
  - {{step: end, result: "{{{{ call }}}}"}}
"""


@pytest.fixture
def api() -> Api:
    return admin_api()


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_pausing_and_resuming(api: Api) -> None:
    execution_id = api.run()
    paused = api.post(f"executions/{execution_id}/pause", {"reason": "lunch"})
    assert (paused.status_code, paused.json()) == (200, {"status": "paused", "execution_id": execution_id})
    assert problem(api.post(f"executions/{execution_id}/pause")) == (409, "not_pausable")
    assert api.post("queue/lease", {"worker_id": "w"}).json() == {"status": "empty"}
    assert api.get("executions", status="paused").json()[0]["id"] == execution_id
    job = {"execution_id": execution_id, "node_id": "by-hand", "action": {"type": "python", "code": "x"}}
    assert api.post("queue/enqueue", job).status_code in (200, 201)
    assert api.post("queue/lease", {"worker_id": "w"}).json() == {"status": "empty"}
    assert api.post(f"executions/{execution_id}/resume").json()["status"] == "running"
    assert problem(api.post(f"executions/{execution_id}/resume")) == (409, "not_pausable")
    assert api.lease()["execution_id"] == execution_id


def test_a_signal_reaches_the_wait_and_none_reaches_an_end(api: Api) -> None:
    execution_id = api.run(SIGNAL)
    for odd in ("a\x00b", {"\ud800": 1}):
        assert api.post(f"executions/{execution_id}/signals/payment", {"data": odd}).status_code == 400
    answer = api.post("executions/@latest/signals/payment", {"data": {"amount": 5}})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert api.get(f"executions/{execution_id}").json()["result"] == {"amount": 5}
    assert problem(api.post(f"executions/{execution_id}/signals/payment")) == (409, "execution_ended")
    assert problem(api.post("executions/1/signals/payment")) == (404, "execution_not_found")


@pytest.mark.parametrize("place", ["ask", "{E}:ask"])
def test_an_approval_is_answered_by_its_approvers_and_once(api: Api, place: str) -> None:
    execution_id = api.run(APPROVAL)
    place = f"executions/{execution_id}/approvals/{place.replace('{E}', execution_id)}"
    assert api.post(place, {}).status_code == 400
    stranger = api_as("author", name="somebody")
    assert problem(stranger.post(place, {"approved": True})) == (403, "not_approver")
    # By the group, and by the name.
    assert api_as("operator").post(place, {"approved": True, "answer": {"n": 1}}).status_code == 200
    assert problem(api_as("author").post(place, {"approved": True})) == (409, "execution_ended")
    assert api.get(f"executions/{execution_id}").json()["result"] == {
        "approved": True,
        "answer": {"n": 1},
        "by": "test-operator",
    }


def test_nothing_waits_for_an_approval(api: Api) -> None:
    execution_id = api.run()
    answer = api.post(f"executions/{execution_id}/approvals/one", {"approved": True})
    assert problem(answer) == (409, "approval_closed")


def test_children_are_listed_and_linked(api: Api) -> None:
    api.post("catalog/register", {"content": CHAIN})
    parent = api.run(PARENT)
    [child] = api.get(f"executions/{parent}/children").json()
    assert (child["parent_execution_id"], child["parent_node_id"]) == (parent, f"{parent}:call")
    assert child["children_count"] == 0
    told = api.get(f"executions/{parent}").json()
    assert (told["children_count"], told["parent_execution_id"], told["rerun_of"]) == (1, None, None)
    assert [one["children_count"] for one in api.get("executions").json()] == [0, 1]
    assert problem(api.get("executions/1/children")) == (404, "execution_not_found")


def test_running_again(api: Api) -> None:
    first = api.run(n=5)
    work_off(lambda job: {"n": job.action["inputs"]["n"] + 1})
    answer = api.post(f"executions/{first}/rerun", {"from_step": "two", "payload": {"more": 1}})
    assert answer.status_code == 201
    again = answer.json()
    assert (again["rerun_of"], again["status"]) == (first, "running")
    assert api.lease()["node_name"] == "two"
    assert problem(api.post(f"executions/{first}/rerun", {"from_step": "nope"})) == (422, "workload_invalid")
    assert problem(api.post(f"executions/{first}/rerun", {"payload": [1]})) == (422, "workload_invalid")
    assert problem(api.post("executions/1/rerun")) == (404, "execution_not_found")


def test_large_results_are_given_when_they_are_asked_for(api: Api) -> None:
    execution_id = api.run(CHAIN.replace('result: {n: "{{ two.n }}"}', 'result: "{{ one }}"'))
    large = {"n": 1, "rows": ["x" * 1000] * 100}
    work_off(lambda job: large)
    place = f"events/by-execution/{execution_id}"

    def outcome(**query: Any) -> Any:
        told = api.get(place, **query).json()["events"]
        return next(one for one in told if one["event_type"] == "action_completed")

    short, whole = outcome(), outcome(large="true")
    assert list(short["result"]) == ["$ref"] and short["result_ref"] == short["result"]["$ref"]["sha256"]
    assert whole["result"] == whole["output_result"] == large
    assert api.get(f"events/by-id/{short['event_id']}").json()["events"][0]["result"] == large
    assert api.get(f"executions/{execution_id}").json()["result"] == large
    # What is posted may name a reference, and is none.
    forged = {"event_type": "note", "result": short["result"], "meta": {"result_ref": short["result_ref"]}}
    posted = api.post("events", {"execution_id": execution_id, **forged}).json()
    assert api.get(f"events/by-id/{posted['event_id']}").json()["events"][0]["result"] == short["result"]
