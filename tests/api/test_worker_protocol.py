"""The worker protocol: whose word about a job counts, and what it changes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.db import connection

from executions.models import EventLog, Execution
from executors.selectors import find_violations
from executors.services import save_credential
from queueing.models import Job, LeaseHistory
from tests.support.api import Api, admin_api, api_as
from tests.support.books import CHAIN, FAN
from tests.support.language import let_time_pass

pytestmark = pytest.mark.usefixtures("fresh_db")


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


def expire(job: dict[str, Any]) -> None:
    Job.objects.filter(id=job["id"]).update(lease_until="2020-01-01T00:00:00Z")


def events_of(job: dict[str, Any]) -> list[str]:
    return list(
        EventLog.objects.filter(execution_id=job["execution_id"]).order_by("seq").values_list("event_type", flat=True)
    )


def test_a_worker_drives_an_execution_to_its_end(admin: Api, worker: Api) -> None:
    execution_id = admin.run(n=4)
    first = worker.lease()
    assert json.loads(first["action"]) == {
        "type": "python",
        "with": {"n": 4},
        "code_b64": base64.b64encode(b"def main(n): return {'n': n + 1}").decode(),
    }
    done = worker.post(f"queue/{first['id']}/complete", {"lease_token": first["lease_token"], "result": {"n": 5}})
    assert (done.status_code, done.json()) == (200, {"status": "ok", "id": first["id"], "judgement": "accepted"})
    second = worker.lease()
    assert json.loads(second["action"])["with"] == {"n": 5}
    worker.post(f"queue/{second['id']}/complete", {"lease_token": second["lease_token"], "result": {"n": 50}})
    told = admin.get(f"executions/{execution_id}").json()
    assert (told["status"], told["result"], told["progress"]) == ("completed", {"n": 50}, 100)
    assert worker.post("queue/lease", {"worker_id": "w1"}).json() == {"status": "empty"}


def test_a_posted_outcome_is_the_accepted_result_and_complete_repeats_it(admin: Api, worker: Api) -> None:
    """Rule R16: the original's worker posts `action_completed`, then completes, and knows no token."""
    admin.run()
    job = worker.lease()
    envelope = {"id": "a1", "status": "success", "data": {"n": 2}}
    event = {"execution_id": job["execution_id"], "node_id": job["node_id"], "event_type": "action_completed"}
    posted = worker.post("events", {**event, "status": "COMPLETED", "result": envelope})
    assert posted.status_code == 201
    assert (posted.json()["event_type"], posted.json()["result"]) == ("action_completed", {"n": 2})
    done = worker.post(f"queue/{job['id']}/complete")
    assert (done.status_code, done.json()["judgement"]) == (200, "already_accepted")
    again = worker.post("events", {**event, "result": {"id": "a2", "status": "success", "data": {"n": 666}}})
    assert (again.status_code, again.json()["event_id"]) == (200, posted.json()["event_id"])
    assert Job.objects.get(id=job["id"]).status == "done"
    assert events_of(job).count("action_completed") == 1
    assert json.loads(worker.lease()["action"])["with"] == {"n": 2}


def test_a_posted_failure_fails_the_step_with_its_cause(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease()
    event = {"execution_id": execution_id, "node_id": job["node_id"], "event_type": "action_error"}
    assert worker.post("events", {**event, "error": "ValueError: no", "traceback": "line 1"}).status_code == 201
    failed = worker.post(f"queue/{job['id']}/fail", {"retry": False})
    assert failed.json()["judgement"] == "already_accepted"
    told = admin.get(f"executions/{execution_id}").json()
    assert (told["status"], told["error"]["message"], told["error"]["step"]) == ("failed", "ValueError: no", "one")
    outcome = next(event for event in told["events"] if event["event_type"] == "action_error")
    assert outcome["stack_trace"] == "line 1"


def test_a_failure_of_a_playbooks_job_is_final_whatever_the_worker_asks(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease()
    failed = worker.post(f"queue/{job['id']}/fail", {"retry": True, "error": {"code": "boom", "message": "broken"}})
    assert failed.json()["judgement"] == "accepted"
    told = admin.get(f"executions/{execution_id}").json()
    assert (told["status"], told["error"]["code"]) == ("failed", "boom")


def test_completing_without_an_event_never_stalls_the_execution(admin: Api, worker: Api) -> None:
    admin.run()
    job = worker.lease()
    assert worker.post(f"queue/{job['id']}/complete").json()["judgement"] == "accepted"
    assert EventLog.objects.get(execution_id=job["execution_id"], event_type="action_completed").result is None


def test_the_zombies_late_report_is_409_and_writes_nothing(admin: Api, worker: Api) -> None:
    admin.run()
    zombie = worker.lease("zombie")
    expire(zombie)
    assert admin.post("queue/reap-expired").json() == {"reclaimed": 1}
    again = api_as("worker", name="healthy").lease("healthy")
    assert again["id"] == zombie["id"] and again["attempts"] == 2
    before = events_of(zombie)
    for path, body in (
        (f"queue/{zombie['id']}/complete", {"lease_token": zombie["lease_token"], "result": {"n": 666}}),
        (f"queue/{zombie['id']}/complete", {"worker_id": "zombie", "result": {"n": 666}}),
        (f"queue/{zombie['id']}/fail", {"worker_id": "zombie"}),
        (f"queue/{zombie['id']}/heartbeat", {"worker_id": "zombie", "extend_seconds": 60}),
        (f"queue/{zombie['id']}/release", {"lease_token": zombie["lease_token"]}),
        (f"queue/{zombie['id']}/secrets", {"lease_token": zombie["lease_token"]}),
        ("events", {"execution_id": zombie["execution_id"], "node_id": zombie["node_id"],
                    "event_type": "action_completed", "worker_id": "zombie", "result": {"n": 666}}),
    ):  # fmt: skip
        answer = worker.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost"), path
    assert events_of(zombie) == before
    assert Job.objects.get(id=zombie["id"]).status == "leased"
    assert str(Job.objects.get(id=zombie["id"]).lease_token) == again["lease_token"]


def test_without_a_token_a_job_leased_twice_by_one_client_is_ambiguous(admin: Api, worker: Api) -> None:
    admin.run()
    first = worker.lease("w1")
    expire(first)
    admin.post("queue/reap-expired")
    second = worker.lease("w1")
    assert second["id"] == first["id"]
    unclear = worker.post(f"queue/{second['id']}/complete", {"worker_id": "w1", "result": {"n": 1}})
    assert (unclear.status_code, unclear.json()["code"]) == (409, "lease_lost")
    clear = worker.post(f"queue/{second['id']}/complete", {"lease_token": second["lease_token"], "result": {"n": 2}})
    assert clear.json()["judgement"] == "accepted"


def test_nobody_speaks_of_anothers_lease(admin: Api, worker: Api) -> None:
    admin.run()
    job = worker.lease("w1")
    other = api_as("worker", name="other")
    for body in ({"worker_id": "w1"}, {"lease_token": job["lease_token"]}, {}):
        answer = other.post(f"queue/{job['id']}/complete", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost"), body
    assert other.post("queue/1/complete").status_code == 404
    assert worker.post(f"queue/{job['id']}/complete", {"worker_id": "w2"}).status_code == 409
    assert worker.post(f"queue/{job['id']}/complete", {"worker_id": "w1"}).status_code == 200


def test_a_heartbeat_extends_the_lease_and_tells_of_a_cancel(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease(lease_seconds=5)
    beat = worker.post(f"queue/{job['id']}/heartbeat", {"lease_token": job["lease_token"], "extend_seconds": 100})
    assert beat.json()["lease_until"] > job["lease_until"]
    assert beat.json()["cancel_requested"] is False
    cancelled = admin.post(f"executions/{execution_id}/cancel", {"reason": "enough"})
    assert cancelled.json() == {"status": "cancelled", "execution_id": execution_id, "cancelled": True}
    beat = worker.post(f"queue/{job['id']}/heartbeat", {"lease_token": job["lease_token"]})
    assert beat.json()["cancel_requested"] is True
    assert worker.post(f"queue/{job['id']}/release", {"lease_token": job["lease_token"]}).status_code == 200
    assert Job.objects.get(id=job["id"]).status == "cancelled"


def test_a_result_that_comes_after_the_end_is_recorded_as_late(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease()
    admin.post(f"executions/{execution_id}/cancel")
    event = {"execution_id": execution_id, "node_id": job["node_id"], "event_type": "action_completed"}
    late = worker.post("events", {**event, "result": {"n": 3}})
    assert late.status_code == 201
    assert events_of(job)[-1] == "late_result"
    assert Execution.objects.get(id=execution_id).status == "cancelled"


def test_a_job_given_back_costs_nothing(admin: Api, worker: Api) -> None:
    admin.run()
    job = worker.lease()
    assert worker.post(f"queue/{job['id']}/release", {"lease_token": job["lease_token"]}).json()["status"] == "ok"
    again = worker.lease()
    assert (again["id"], again["attempts"], again["lost_leases"]) == (job["id"], 2, 0)


@pytest.mark.parametrize(
    "result", [{"a": "nul \x00"}, {"a": "\ud800"}, 1e999], ids=["nul", "half a surrogate pair", "infinity"]
)
def test_a_result_that_cannot_be_kept_fails_the_step(admin: Api, worker: Api, result: Any) -> None:
    """Rule R12: a failed step, never a refused report and a retry without end."""
    admin.run()
    job = worker.lease()
    body = json.dumps({"lease_token": job["lease_token"], "result": result}).replace("Infinity", "1e999")
    answer = worker.client.post(f"/api/queue/{job['id']}/complete", body, content_type="application/json")
    assert answer.status_code == 200, answer.content
    event = EventLog.objects.get(execution_id=job["execution_id"], event_type="action_error")
    assert event.error and event.error["code"] == "output_invalid"


def test_other_posted_events_are_annotations_that_nothing_is_planned_with(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease()
    about = {"execution_id": execution_id, "node_id": job["node_id"], "node_name": "one"}
    started = worker.post("events", {**about, "event_type": "action_started", "status": "RUNNING"})
    assert (started.status_code, started.json()["event_type"]) == (201, "action_started")
    for type_ in ("execution_completed", "step_completed", "child_completed", "my_note"):
        assert worker.post("events", {**about, "event_type": type_}).status_code == 201
    told = admin.get(f"events/by-execution/{execution_id}").json()["events"]
    posted = [(event["event_type"], event["origin"]) for event in told if event["origin"] == "posted"]
    assert posted == [
        (type_, "posted")
        for type_ in ("action_started", "execution_completed", "step_completed", "child_completed", "my_note")
    ]
    assert Execution.objects.get(id=execution_id).status == "running"
    worker.post(f"queue/{job['id']}/complete", {"lease_token": job["lease_token"], "result": {"n": 1}})
    assert Job.objects.filter(execution_id=execution_id).count() == 2


def test_posting_an_id_again_gives_the_row_and_changes_nothing(admin: Api) -> None:
    execution_id, other = admin.run(), admin.run()
    note = {"execution_id": execution_id, "event_type": "note", "event_id": "77", "node_id": "x", "status": "DONE"}
    first = admin.post("events", note)
    again = admin.post("events", {**note, "status": "CHANGED", "context": {"a": 1}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (first.json()["posted_id"], first.json()["status"]) == ("77", "DONE")
    taken = admin.post("events", {**note, "node_id": "y"})
    assert (taken.status_code, taken.json()["code"]) == (409, "event_id_taken")
    assert admin.post("events", {**note, "execution_id": other}).status_code == 201
    for id_ in ("77", first.json()["event_id"]):
        assert admin.get(f"events/by-id/{id_}").json()["events"][0]["event_id"] == first.json()["event_id"]


def test_a_large_note_is_given_back_whole_to_who_posts_it(admin: Api) -> None:
    note = {"execution_id": admin.run(), "event_type": "note", "event_id": "77", "result": {"rows": ["x" * 1000] * 100}}
    first, again = admin.post("events", note), admin.post("events", note)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() and first.json()["result"] == note["result"]


def test_a_posted_outcome_keeps_its_id_and_takes_nobody_elses(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease()
    about = {"execution_id": execution_id, "node_id": job["node_id"]}
    for node in ("elsewhere", job["node_id"]):
        admin.post("events", {**about, "node_id": node, "event_type": "note", "event_id": f"of {node}"})
        outcome = {**about, "event_type": "action_completed", "event_id": f"of {node}", "result": {"n": 2}}
        taken = worker.post("events", outcome)
        assert (taken.status_code, taken.json()["code"]) == (409, "event_id_taken")
    assert Job.objects.get(id=job["id"]).status == "leased"
    posted = worker.post("events", {**about, "event_type": "action_completed", "event_id": 78, "result": {"n": 2}})
    assert (posted.status_code, posted.json()["posted_id"]) == (201, "78")
    again = worker.post("events", {**about, "event_type": "action_completed", "event_id": 78, "result": {"n": 3}})
    assert (again.status_code, again.json()) == (200, posted.json())
    assert admin.get("events/by-id/78").json()["events"][0]["result"] == {"n": 2}


def test_a_posted_failure_that_is_tried_again_is_told_as_it_is_kept(admin: Api, worker: Api) -> None:
    text = CHAIN.replace("  - step: one\n", "  - step: one\n    retry: {max_attempts: 3, initial_delay: 10}\n")
    execution_id = admin.run(text)
    job = worker.lease()
    about = {"execution_id": execution_id, "node_id": job["node_id"], "lease_token": job["lease_token"]}
    event = {**about, "event_type": "action_error", "event_id": "f1", "error": "ValueError: no"}
    posted = worker.post("events", event)
    assert (posted.status_code, posted.json()["event_type"]) == (201, "action_retry")
    assert (posted.json()["posted_id"], posted.json()["error"]["message"]) == ("f1", "ValueError: no")
    again = worker.post("events", event)
    assert (again.status_code, again.json()) == (200, posted.json())
    let_time_pass()
    second = worker.lease()
    worker.post(f"queue/{second['id']}/complete", {"lease_token": second["lease_token"], "result": {"n": 2}})
    # What the later try came to is not what came of this one.
    again = worker.post("events", event)
    assert (again.status_code, again.json()) == (200, posted.json())


def test_a_note_hides_no_outcome(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = worker.lease()
    event = {"execution_id": execution_id, "node_id": job["node_id"], "event_type": "action_completed"}
    posted = worker.post("events", {**event, "result": {"n": 2}})
    admin.post("events", {**event, "event_type": "note"})
    assert worker.post("events", event).json() == posted.json()


def test_an_id_opens_no_event_to_a_worker(admin: Api, worker: Api) -> None:
    execution_id = admin.run(n=1234)
    [start, *_] = admin.get(f"events/by-execution/{execution_id}").json()["events"]
    admin.post("events", {"execution_id": execution_id, "event_type": "note", "event_id": "n", "context": {"a": 1234}})
    job = worker.lease()
    for node_id, event_id in ((execution_id, "n"), (job["node_id"], "n"), (job["node_id"], start["event_id"])):
        asked = {"execution_id": execution_id, "node_id": node_id, "event_type": "note", "event_id": event_id}
        assert b"1234" not in worker.post("events", asked).content


def test_no_posted_event_stands_before_an_execution(admin: Api) -> None:
    execution_id, other = admin.run(), admin.run()
    admin.post("events", {"execution_id": other, "event_type": "execution_completed", "event_id": execution_id})
    assert admin.get(f"events/{execution_id}").json()["events"][0]["event_type"] == "execution_start"


def test_an_annotation_that_cannot_be_kept_is_refused(admin: Api) -> None:
    execution_id = admin.run()
    note = {"execution_id": execution_id, "event_type": "note"}
    for key in ("result", "output_result", "error", "context", "meta", "current_item"):
        for value in ("a\x00", "\ud800"):
            assert admin.post("events", {**note, key: value}).status_code == 400, key
    assert admin.post("events", {**note, "traceback": "a\x00b"}).status_code == 201


def test_a_failure_with_a_bad_character_is_still_a_failure(admin: Api, worker: Api) -> None:
    """Rule R12: what a worker tells of a failure is cleaned, never refused."""
    execution_id = admin.run()
    job = worker.lease()
    told = {"error": {"code": "a\x00", "message": "b\ud800"}, "traceback": "c\x00", "result": "\x00"}
    failed = worker.post(f"queue/{job['id']}/fail", {"lease_token": job["lease_token"], **told})
    assert (failed.status_code, failed.json()["judgement"]) == (200, "accepted")
    event = EventLog.objects.get(execution_id=execution_id, event_type="action_error")
    assert (event.error, event.stack_trace, event.result) == ({"code": "a�", "message": "b?"}, "c�", None)


@pytest.mark.parametrize(
    ("asked", "kept"), [(7, 7), (0.5, 0.5), ("7", None), (True, None), (-1, None), (10**12, None), ([7], None)]
)
def test_a_failure_tells_how_long_to_wait(admin: Api, worker: Api, asked: Any, kept: Any) -> None:
    execution_id = admin.run()
    job = worker.lease()
    told = {"error": {"code": "busy", "message": "later", "retry_after_seconds": asked, "more": 1}}
    assert worker.post(f"queue/{job['id']}/fail", {"lease_token": job["lease_token"], **told}).status_code == 200
    event = EventLog.objects.get(execution_id=execution_id, event_type="action_error")
    pause = {} if kept is None else {"retry_after_seconds": kept}
    assert event.error == {"code": "busy", "message": "later", **pause}


def test_a_worker_annotates_only_jobs_that_it_holds(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    note = {"execution_id": execution_id, "node_id": f"{execution_id}:one", "event_type": "note"}
    assert worker.post("events", note).status_code == 403
    worker.lease()
    assert worker.post("events", note).status_code == 201
    assert worker.post("events", {**note, "node_id": f"{execution_id}:two"}).status_code == 403
    assert admin.post("events", {**note, "node_id": "anything"}).status_code == 201


def test_rendering_a_held_action_gives_it_back_as_it_is(admin: Api, worker: Api) -> None:
    """Data is never a template: what came out of a result stays the characters it is."""
    text = CHAIN.replace('with: {n: "{{ n }}"}', 'with: {n: "{{ n }}", evil: "{{ evil }}"}')
    execution_id = admin.run(text, evil="{{ workload.n }}")
    job = worker.lease()
    asked = {"execution_id": execution_id, "template": {"work": job["context"], "task": job["action"]}, "strict": True}
    answer = worker.post("context/render", {**asked, "extra_context": {"env": {"HOME": "/"}}}).json()
    assert answer["status"] == "ok" and answer["errors"] == {}
    assert answer["rendered"]["task"] == json.loads(job["action"])
    assert answer["rendered"]["task"]["with"]["evil"] == "{{ workload.n }}"
    assert answer["rendered"]["work"] == job["context"]
    other = {"execution_id": execution_id, "template": {"task": {"type": "python", "with": {"x": "{{ workload }}"}}}}
    assert worker.post("context/render", other).status_code == 403
    assert (
        worker.post("context/render", {"execution_id": execution_id, "template": "{{ workload.n }}"}).status_code == 403
    )
    stranger = api_as("worker", name="stranger")
    assert stranger.post("context/render", asked).status_code == 403


def test_an_operator_renders_against_the_execution(admin: Api, worker: Api) -> None:
    execution_id = admin.run(n=7)
    job = worker.lease()
    worker.post(f"queue/{job['id']}/complete", {"lease_token": job["lease_token"], "result": {"n": 8, "t": "{{ n }}"}})
    operator = api_as("operator")

    def render(template: Any, **more: Any) -> Any:
        return operator.post("context/render", {"execution_id": execution_id, "template": template, **more})

    answer = render({"work": {"a": "{{ n }}"}, "task": {"b": "{{ one.n }}", "c": "{{ one.t }}"}, "kept": "{{ n }}"})
    assert answer.json()["rendered"] == {"work": {"a": 7}, "task": {"b": 8, "c": "{{ n }}"}, "kept": "{{ n }}"}
    assert {"workload", "n", "one"} <= set(answer.json()["context_keys"])
    over = {"work": {"n": "over", "new": 5}, "task": "{{ [n, new, work.n, context.new] | tojson }}"}
    assert json.loads(render(over).json()["rendered"]["task"]) == [7, 5, "over", 5]
    assert render({"task": '{"type": "python", "with": {"a": "{{ n }}"}}'}).json()["rendered"]["task"]["with"] == {
        "a": "7"
    }
    many = render({"task": ["{{ n }}"] * 1001}, strict=True)
    assert (many.status_code, "1000 templates" in many.json()["detail"]) == (422, True)
    assert render("{{ n }} and {{ extra }}", extra_context={"extra": 1}).json()["rendered"] == "7 and 1"
    assert render("{{ env.HOME }}", extra_context={"env": {"HOME": "/root"}}, strict=True).status_code == 422
    loose = render({"task": "{{ missing }}", "work": {}}).json()
    assert loose["rendered"]["task"] == "{{ missing }}" and "missing" in loose["errors"]["task"]
    strict = render({"task": "{{ missing }}"}, strict=True)
    assert (strict.status_code, strict.json()["code"]) == (422, "template_error")


def test_a_job_enqueued_by_hand_runs_and_is_planned_with_by_nobody(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = {"execution_id": execution_id, "node_id": f"{execution_id}-step-9", "priority": 9}
    action = {"type": "python", "code_b64": base64.b64encode(b"def main(): return 1").decode(), "with": {}}
    first = admin.post("queue/enqueue", {**job, "action": json.dumps(action), "context": {"a": 1}}).json()
    assert first["status"] == "ok" and first["id"]
    assert admin.post("queue/enqueue", {**job, "action": action}).json() == {"status": "ok", "id": None}
    leased = worker.lease()
    assert (leased["id"], leased["origin"], leased["context"]) == (first["id"], "external", {"a": 1})
    assert json.loads(leased["action"]) == action
    failed = worker.post(f"queue/{leased['id']}/fail", {"lease_token": leased["lease_token"], "retry_delay_seconds": 0})
    assert failed.json()["judgement"] == "queued"
    again = worker.lease()
    assert (again["id"], again["attempts"]) == (first["id"], 2)
    worker.post(f"queue/{again['id']}/complete", {"lease_token": again["lease_token"], "result": 1})
    assert Job.objects.get(id=first["id"]).status == "done"
    assert Execution.objects.get(id=execution_id).status == "running"
    told = admin.get(f"events/by-execution/{execution_id}").json()["events"][-1]
    assert (told["event_type"], told["origin"], told["result"]) == ("action_completed", "posted", 1)


def test_a_job_by_hand_ends_with_its_execution(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    for node in ("leased", "queued"):
        admin.post(
            "queue/enqueue", {"execution_id": execution_id, "node_id": node, "action": {"type": "x"}, "pool": node}
        )
    held = worker.lease(pools=["leased"])
    for _ in range(2):
        job = worker.lease()
        worker.post(f"queue/{job['id']}/complete", {"lease_token": job["lease_token"], "result": {"n": 1}})
    assert Execution.objects.get(id=execution_id).status == "completed"
    assert Job.objects.get(node_id="queued").status == "cancelled"
    beat = worker.post(f"queue/{held['id']}/heartbeat", {"lease_token": held["lease_token"]})
    assert beat.json()["cancel_requested"] is True
    failed = worker.post(f"queue/{held['id']}/fail", {"lease_token": held["lease_token"], "retry": True})
    assert failed.status_code == 200
    assert Job.objects.get(node_id="leased").status == "cancelled"


def test_a_job_by_hand_that_fails_too_often_has_failed(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = {"execution_id": execution_id, "node_id": "mine", "priority": 9, "max_attempts": 1, "action": {"type": "x"}}
    admin.post("queue/enqueue", job)
    leased = worker.lease()
    failed = worker.post(f"queue/{leased['id']}/fail", {"lease_token": leased["lease_token"], "error": "no"})
    assert failed.json()["judgement"] == "accepted"
    assert Job.objects.get(id=leased["id"]).status == "failed"
    assert Execution.objects.get(id=execution_id).status == "running"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"node_id": "{id}:one"}, 422, "node_reserved"),
        ({"execution_id": "12345"}, 404, "execution_not_found"),
        ({"action": "no json"}, 400, "invalid"),
        ({"action": {"with": {}}}, 400, "invalid"),
        ({"action": {"type": "python", "code_b64": "%%%"}}, 400, "invalid"),
        ({"action": None}, 400, "invalid"),
        ({"action": {"type": " "}}, 400, "invalid"),
        ({"action": {"type": "x" * 200}}, 400, "invalid"),
        ({"action": '{"type": "x", "a": "\\u0000"}'}, 400, "invalid"),
        ({"action": '{"type": "x", "a": NaN}'}, 400, "invalid"),
        ({"action": {"type": "python", "code_b64": "AA=="}}, 400, "invalid"),
        ({"execution_id": "00000000000000000001" + "9" * 5000}, 400, "invalid"),
        ({"max_attempts": 0}, 400, "invalid"),
    ],
)
def test_a_wrong_job_by_hand_is_refused(admin: Api, change: dict[str, Any], status: int, code: str) -> None:
    execution_id = admin.run()
    job = {"execution_id": execution_id, "node_id": "mine", "action": {"type": "python"}, **change}
    job["node_id"] = job["node_id"].replace("{id}", execution_id)
    answer = admin.post("queue/enqueue", job)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert Job.objects.filter(origin="external").count() == 0


def test_an_ended_execution_takes_no_job_by_hand(admin: Api) -> None:
    execution_id = admin.run()
    admin.post(f"executions/{execution_id}/cancel")
    answer = admin.post("queue/enqueue", {"execution_id": execution_id, "node_id": "mine", "action": {"type": "x"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "execution_ended")


def test_a_dead_job_by_hand_ends_no_step(admin: Api, worker: Api) -> None:
    execution_id = admin.run()
    job = {"execution_id": execution_id, "node_id": "mine", "priority": 9, "max_attempts": 1, "action": {"type": "x"}}
    admin.post("queue/enqueue", job)
    leased = worker.lease()
    expire(leased)
    assert admin.post("queue/reap-expired").json() == {"reclaimed": 1}
    assert Job.objects.get(id=leased["id"]).status == "dead"
    assert Execution.objects.get(id=execution_id).status == "running"


PG = {"db_host": "db", "db_user": "ada", "db_name": "shop", "db_password": "hush"}


def test_no_secret_for_an_action_of_no_kind(admin: Api, worker: Api) -> None:
    save_credential("db", "postgres", PG)
    action = {"type": "nothing", "auth": "db"}
    admin.post("queue/enqueue", {"execution_id": admin.run(), "node_id": "x", "action": action, "priority": 9})
    job = worker.lease()
    answer = worker.post(f"queue/{job['id']}/secrets", {"lease_token": job["lease_token"]})
    assert answer.json() == {"credentials": {}}


def test_secrets_are_for_the_lease_and_for_what_the_action_names(admin: Api, worker: Api) -> None:
    save_credential("db", "postgres", PG)
    save_credential("other", "postgres", PG | {"db_password": "more"})
    text = CHAIN.replace("type: python\n    with: {n: \"{{ n }}\"}\n    code: \"def main(n): return {'n': n + 1}\"",
                         "type: postgres\n    auth: db\n    command: SELECT 1")  # fmt: skip
    admin.run(text)
    job = worker.lease()
    assert "hush" not in json.dumps(job)
    answer = worker.post(f"queue/{job['id']}/secrets", {"lease_token": job["lease_token"]})
    assert answer.json() == {"credentials": {"db": {"type": "postgres", "data": PG}}}
    assert answer["Cache-Control"] == "no-store"
    assert worker.post(f"queue/{job['id']}/secrets", {"worker_id": "w1"}).status_code == 400
    expire(job)
    lost = worker.post(f"queue/{job['id']}/secrets", {"lease_token": job["lease_token"]})
    assert (lost.status_code, b"hush" in lost.content) == (409, False)
    admin.post("queue/reap-expired")
    listed = admin.get("queue").json()["items"]
    assert "hush" not in json.dumps(listed) and "lease_token" not in listed[0]


def test_the_queue_is_listed_and_counted(admin: Api, worker: Api) -> None:
    execution_id = admin.run(FAN)
    worker.lease("w9")
    assert admin.get("queue/size").json() == {"status": "ok", "count": 4}
    assert admin.get("queue/size", status="leased").json() == {"status": "ok", "count": 1}
    assert len(admin.get("queue", execution_id=execution_id).json()["items"]) == 5
    assert [job["worker_id"] for job in admin.get("queue", worker_id="w9").json()["items"]] == ["w9"]
    assert len(admin.get("queue", limit="2").json()["items"]) == 2
    for wrong in (
        {"status": "x"}, {"limit": "0"}, {"limit": "x"}, {"limit": "00001" + "9" * 30}, {"execution_id": "x"},
        {"worker_id": "\x00"},
    ):  # fmt: skip
        assert admin.get("queue", **wrong).status_code == 400


def test_a_lease_takes_of_the_asked_pools_only(admin: Api, worker: Api) -> None:
    admin.run()
    assert worker.post("queue/lease", {"worker_id": "w", "pools": ["gpu"]}).json() == {"status": "empty"}
    assert worker.lease(pools=["gpu", "default"])["pool"] == "default"
    assert LeaseHistory.objects.get().principal.startswith("token:")


def test_a_database_that_is_away_is_503(admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    from noetl_site import embedded
    from tests.support.database import data_dir

    connection.set_autocommit(False)
    try:
        with embedded.connect(embedded.open_folder(data_dir())) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        answer = admin.get("queue/size")
    finally:
        connection.close()
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
