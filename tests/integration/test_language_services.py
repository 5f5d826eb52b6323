"""The whole language on the server's tables: frames, timers, children, retries, pauses, reruns, large results."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from catalog.api import register_playbook
from executions import nudges, store
from executions.api import (
    ApprovalClosed,
    Approver,
    ExecutionEnded,
    NotApprover,
    NotPausable,
    Rendering,
    answer_approval,
    cancel_execution,
    evaluate_execution,
    find_executions_to_evaluate,
    find_executions_with_due_timers,
    find_parents_to_tell,
    fire_timers,
    get_execution,
    list_events,
    pause_execution,
    reap_expired_lease,
    report_results,
    rerun_execution,
    resume_execution,
    send_signal,
)
from executions.domain.events import Event
from executions.models import EventLog, Execution, LargeResult, StoredFrame, Timer
from executors.selectors import find_violations
from executors.worker.reconciler import Reconciler
from queueing.api import LeasedJob, extend_leases, find_expired_leases, release_jobs
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, failure, lease, report, start, success, work_off

pytestmark = pytest.mark.usefixtures("fresh_db")

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: NAME\npath: tests/NAME\n"
CODE = 'code: "def main(**given): return given"'


def book(text: str, name: str = "book") -> str:
    return HEAD.replace("NAME", name) + text


def settle(answer: Callable[[LeasedJob], Any] = lambda job: None) -> None:
    """Do what workers, messages and the reconciler do, until there is nothing more to do."""
    while True:
        done = work_off(answer, batch=10)
        put_off = [*find_executions_to_evaluate(0, 100), *find_parents_to_tell(0, 100)]
        for execution_id in put_off:
            evaluate_execution(execution_id)
        if not done and not put_off:
            return


def let_time_pass() -> None:
    """Make every timer due and every job available, as if their time had come."""
    Timer.objects.update(due_at=F("due_at") - timedelta(days=400_000))
    Job.objects.update(available_at=F("available_at") - timedelta(days=400_000))


def fire() -> int:
    return sum(fire_timers(execution_id) for execution_id in find_executions_with_due_timers(100))


def types(execution_id: int) -> list[str]:
    return [event.event_type for event in list_events(execution_id)]


def event(execution_id: int, type_: str) -> EventLog:
    return EventLog.objects.filter(execution_id=execution_id, event_type=type_).order_by("-seq")[0]


def ended(execution_id: int) -> tuple[str, Any]:
    view = get_execution(execution_id)
    return view.status, view.result if view.status == "completed" else (view.error or {}).get("code")


# -- frames ---------------------------------------------------------------------------------------------

EACH = f"""
workload: {{items: [1, 2, 3]}}
workflow:
  - {{step: start, next: each}}
  - step: each
    loop: {{in: "{{{{ workload.items }}}}", iterator: item}}
    next: one
  - {{step: one, type: python, {CODE}, with: {{n: "{{{{ item }}}}"}}, next: two}}
  - {{step: two, type: python, {CODE}, with: {{n: "{{{{ one.n }}}}"}}, next: close}}
  - {{step: close, end_loop: each, result: "{{{{ each_results }}}}", next: end}}
  - {{step: end, result: "{{{{ close }}}}"}}
"""


def test_each_running_item_of_a_loop_over_steps_is_a_row_and_gone_at_its_end() -> None:
    execution_id = start(book(EACH))
    jobs = lease(count=3)
    assert sorted(StoredFrame.objects.values_list("key", flat=True)) == ["1.0", "1.1", "1.2"]
    report(jobs[1], {"n": 20})
    [second] = [job for job in lease(count=1) if job.node_name == "two"]
    assert (second.node_id, second.action["inputs"]) == (f"{execution_id}:two:1", {"n": 20})
    report(second, "done")
    assert sorted(StoredFrame.objects.values_list("key", flat=True)) == ["1.0", "1.2"]
    assert find_violations() == []
    report_results(execution_id, [success(jobs[0], {"n": 10}), success(jobs[2], {"n": 30})])
    settle(lambda job: job.action["inputs"]["n"])
    assert ended(execution_id)[1][2] == {"one": {"n": 30}, "two": 30}
    assert not StoredFrame.objects.exists()
    assert find_violations() == []


def test_frames_that_are_lost_with_the_state_are_rebuilt_with_it() -> None:
    execution_id = start(book(EACH))
    report(lease()[0], {"n": 1})
    Execution.objects.update(state=None)
    StoredFrame.objects.filter(key="1.1").delete()
    StoredFrame.objects.create(execution_id=execution_id, key="1.9", data={})
    report(lease()[0], {"n": 2})
    assert "1.9" not in StoredFrame.objects.values_list("key", flat=True)
    assert find_violations() == []
    settle(lambda job: {"n": 5})
    assert get_execution(execution_id).status == "completed"


def test_a_failing_item_takes_its_own_open_work_along() -> None:
    text = EACH.replace("next: one\n", "next: [one, two]\n").replace(
        "iterator: item}", "iterator: item, on_error: continue}"
    )
    text = text.replace('with: {n: "{{ one.n }}"}, ', "").replace("}, next: two}", "}, next: close}")
    execution_id = start(book(text))
    jobs = {job.node_id.partition(":")[2]: job for job in lease(count=6)}
    assert set(jobs) == {"one:0", "two:0", "one:1", "two:1", "one:2", "two:2"}
    report_results(execution_id, [failure(jobs["one:1"], "no luck")])
    assert Job.objects.get(id=jobs["two:1"].id).cancel_requested_at is not None
    assert Job.objects.get(id=jobs["two:2"].id).cancel_requested_at is None
    assert report(jobs["two:1"], "too late") == "accepted"
    assert event(execution_id, "late_result").result == "too late"
    assert get_execution(execution_id).status == "running"
    report_results(execution_id, [success(jobs[name], 1) for name in ("one:0", "two:0", "one:2", "two:2")])
    settle()
    assert ended(execution_id)[0] == "completed"
    assert find_violations() == []


# -- timers and waits -----------------------------------------------------------------------------------

WAIT = """
workflow:
  - {step: start, next: pause}
  - {step: pause, type: wait, duration: 5m, next: end}
  - {step: end, result: done}
"""


def test_a_wait_is_a_timer_and_nothing_else() -> None:
    execution_id = start(book(WAIT))
    timer = Timer.objects.get()
    assert (timer.node_id, timer.kind) == (f"{execution_id}:pause", "wait")
    assert not Job.objects.exists()
    assert fire() == 0
    assert find_violations() == []
    let_time_pass()
    Reconciler().fire_timers()
    assert ended(execution_id) == ("completed", "done")
    assert not Timer.objects.exists()
    assert types(execution_id).count("timer_fired") == 1
    assert find_violations() == []


def test_a_timer_waits_for_whoever_holds_the_execution() -> None:
    execution_id = start(book(WAIT))
    let_time_pass()
    from tests.support.schedules import in_thread

    with transaction.atomic():
        store.lock_execution(execution_id)
        assert in_thread(fire).result(10) == 0
    assert Timer.objects.count() == 1
    assert fire() == 1
    assert ended(execution_id)[0] == "completed"


def test_an_executions_own_time_is_over_when_its_timer_says_so() -> None:
    execution_id = start(book("timeout: 1h\n" + CHAIN.partition("path: tests/chain\n")[2]))
    [job] = lease()
    let_time_pass()
    assert fire() == 1
    assert ended(execution_id) == ("failed", "timeout")
    assert report(job, {"n": 2}) == "accepted"
    assert event(execution_id, "late_result").result == {"n": 2}
    assert find_violations() == []


def test_a_timer_of_an_execution_that_has_ended_is_gone() -> None:
    execution_id = start(book(WAIT))
    cancel_execution(execution_id, "enough", "ada")
    assert not Timer.objects.exists()
    assert ended(execution_id)[0] == "cancelled"
    assert find_violations() == []


SIGNAL = """
workflow:
  - {step: start, next: paid}
  - {step: paid, type: wait, for: signal payment, timeout: 1d, next: end}
  - {step: end, result: "{{ paid }}"}
"""


def test_a_signal_ends_a_wait_and_its_data_is_the_result() -> None:
    execution_id = start(book(SIGNAL))
    assert find_violations() == []
    send_signal(execution_id, "other", 1, "ada")
    assert get_execution(execution_id).status == "running"
    send_signal(execution_id, "payment", {"amount": 5}, "ada")
    assert ended(execution_id) == ("completed", {"amount": 5})
    assert not Timer.objects.exists()
    with pytest.raises(ExecutionEnded):
        send_signal(execution_id, "payment")
    assert find_violations() == []


def test_a_signal_that_nobody_waits_for_yet_is_kept() -> None:
    text = SIGNAL.replace("next: paid}", "next: work}").replace(
        "  - {step: end", f"  - {{step: work, type: python, {CODE}, next: paid}}\n  - {{step: end"
    )
    execution_id = start(book(text))
    send_signal(execution_id, "payment", 7)
    settle()
    assert ended(execution_id) == ("completed", 7)


APPROVAL = """
workflow:
  - {step: start, next: ask}
  - {step: ask, type: approval, message: "Ship it?", approvers: [ann, leads], next: end}
  - {step: end, result: "{{ ask.answer }}"}
"""
ANN = Approver("ann")


def test_an_approval_is_open_until_it_is_answered_and_to_its_approvers_only() -> None:
    execution_id = start(book(APPROVAL))
    assert find_violations() == []
    with pytest.raises(NotApprover):
        answer_approval(execution_id, "ask", approved=True, answer={}, approver=Approver("bob", frozenset({"viewer"})))
    with pytest.raises(ApprovalClosed):
        answer_approval(execution_id, "start", approved=True, answer={}, approver=ANN)
    answer_approval(
        execution_id, "ask", approved=True, answer={"note": 1}, approver=Approver("bob", frozenset({"leads"}))
    )
    assert ended(execution_id) == ("completed", {"note": 1})
    with pytest.raises(ExecutionEnded):
        answer_approval(execution_id, "ask", approved=True, answer={}, approver=ANN)
    assert find_violations() == []


def test_an_approval_that_is_refused_fails_its_step() -> None:
    execution_id = start(book(APPROVAL))
    answer_approval(
        execution_id, f"{execution_id}:ask", approved=False, answer={}, approver=Approver("x", may_answer_all=True)
    )
    assert ended(execution_id) == ("failed", "approval_rejected")


def test_an_answer_while_paused_is_the_only_one() -> None:
    execution_id = start(book(APPROVAL))
    pause_execution(execution_id)
    answer_approval(execution_id, "ask", approved=True, answer={"n": 1}, approver=ANN)
    with pytest.raises(ApprovalClosed):
        answer_approval(execution_id, "ask", approved=False, answer={}, approver=ANN)
    resume_execution(execution_id)
    assert ended(execution_id) == ("completed", {"n": 1})


def test_an_approval_of_an_item_that_was_called_off_is_closed() -> None:
    text = f"""
workflow:
  - {{step: start, next: each}}
  - {{step: each, loop: {{in: [1, 2], iterator: item, on_error: continue}}, next: [work, ask]}}
  - {{step: work, type: python, {CODE}, next: close}}
  - {{step: ask, type: approval, message: "Ship it?", next: close}}
  - {{step: close, end_loop: each, next: end}}
  - {{step: end, result: 1}}
"""
    execution_id = start(book(text))
    jobs = sorted(lease(count=2), key=lambda job: job.node_id)
    report_results(execution_id, [failure(jobs[0])])
    with pytest.raises(ApprovalClosed):
        answer_approval(execution_id, f"{execution_id}:ask:0", approved=True, answer={}, approver=ANN)
    answer_approval(execution_id, "ask", approved=True, answer={}, approver=ANN)
    report(jobs[1], 1)
    assert ended(execution_id) == ("completed", 1)
    assert find_violations() == []


# -- pause ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
def test_a_paused_execution_takes_results_and_starts_nothing(settings: Any, inline: bool) -> None:
    settings.NOETL_EVALUATE_INLINE = inline
    execution_id = start(CHAIN)
    evaluate_execution(execution_id)
    [job] = lease()
    pause_execution(execution_id, "lunch", "ada")
    assert get_execution(execution_id).status == "paused"
    with pytest.raises(NotPausable):
        pause_execution(execution_id)
    assert report(job, {"n": 2}) == "accepted"
    evaluate_execution(execution_id)
    assert lease() == []
    assert find_violations() == []
    resume_execution(execution_id, "ada")
    assert get_execution(execution_id).status == "running"
    with pytest.raises(NotPausable):
        resume_execution(execution_id)
    settle(lambda job: {"n": 20})
    assert ended(execution_id) == ("completed", {"n": 20})
    assert find_violations() == []


def test_jobs_of_a_paused_execution_are_held_also_when_they_come_back() -> None:
    execution_id = start(book(EACH))
    running = lease(count=2)
    pause_execution(execution_id)
    assert lease(count=5) == []
    release_jobs([running[0].fence])
    Job.objects.filter(id=running[1].id).update(lease_until=F("lease_until") - timedelta(hours=1))
    reaped = [reap_expired_lease(lost) for lost in find_expired_leases(10)]
    assert [lost.status for lost in reaped if lost is not None] == ["queued"]
    assert lease(count=5) == []
    assert find_violations() == []
    resume_execution(execution_id)
    assert len(lease(count=5)) == 3


def test_resuming_says_which_jobs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[nudges.Nudge] = []
    execution_id = start(book(EACH))
    pause_execution(execution_id)
    monkeypatch.setattr(nudges._Carriers, "current", staticmethod(told.append))
    resume_execution(execution_id)
    assert sum(nudge.new_jobs.get("default", 0) for nudge in told) == 3


def test_what_was_put_off_before_a_pause_goes_on_after_it(settings: Any) -> None:
    settings.NOETL_EVALUATE_INLINE = False
    execution_id = start(book(EACH))
    evaluate_execution(execution_id)
    first, *_ = lease(count=3)
    report(first, {"n": 1})
    pause_execution(execution_id)
    resume_execution(execution_id)
    settle(lambda job: {"n": 1})
    assert ended(execution_id)[0] == "completed" or not lease(count=9)


def test_a_paused_execution_can_be_cancelled_and_its_time_can_end() -> None:
    cancelled, timed = start(CHAIN), start(book(WAIT))
    for execution_id in (cancelled, timed):
        pause_execution(execution_id)
    cancel_execution(cancelled)
    assert ended(cancelled)[0] == "cancelled"
    assert Job.objects.get().status == "cancelled"
    let_time_pass()
    assert fire() == 1
    assert get_execution(timed).status == "paused"
    resume_execution(timed)
    assert ended(timed) == ("completed", "done")
    assert find_violations() == []


# -- children -------------------------------------------------------------------------------------------

CHILD = f"""
workload: {{n: 0}}
workflow:
  - {{step: start, next: work}}
  - {{step: work, type: python, {CODE}, with: {{n: "{{{{ workload.n }}}}"}}, next: end}}
  - {{step: end, result: {{got: "{{{{ work.n }}}}"}}}}
"""
PARENT = """
workflow:
  - {step: start, next: call}
  - {step: call, type: playbook, path: tests/child, with: {n: 4}, next: end}
  - {step: end, result: "{{ call }}"}
"""


def child_of(execution_id: int) -> Execution:
    return Execution.objects.get(parent_execution_id=execution_id)


def test_a_child_runs_by_itself_and_its_parent_hears_of_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    register_playbook(book(CHILD, "child"))
    told: list[nudges.Nudge] = []
    monkeypatch.setattr(nudges._Carriers, "current", staticmethod(told.append))
    parent = start(book(PARENT))
    child = child_of(parent)
    assert told == [nudges.Nudge(evaluate=(child.id,))]
    assert (child.parent_node_id, child.depth, child.workload) == (f"{parent}:call", 1, {"n": 4})
    assert types(child.id) == ["execution_start"]
    started = event(parent, "child_started")
    assert started.context == {"execution_id": str(child.id), "path": "tests/child", "version": "0.1.0"}
    assert find_violations() == []
    evaluate_execution(child.id)
    told.clear()
    assert work_off(lambda job: {"n": job.action["inputs"]["n"] * 10}) == 1
    assert nudges.Nudge(parents=(parent,)) in told
    assert get_execution(parent).status == "running"
    assert find_violations() == []
    for _ in range(2):
        evaluate_execution(parent, wait=True)
    assert ended(parent) == ("completed", {"got": 40})
    assert types(parent).count("child_completed") == 1
    assert find_violations() == []


def test_the_reconciler_finds_children_nobody_told_of() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT))
    child = child_of(parent)
    Execution.objects.update(
        needs_evaluation_since=F("needs_evaluation_since") - timedelta(minutes=1),
        updated_at=F("updated_at") - timedelta(minutes=1),
    )
    Reconciler().evaluate_pending()
    work_off(lambda job: {"n": 1})
    assert child_of(parent).status == "completed"
    Execution.objects.filter(id=child.id).update(updated_at=F("updated_at") - timedelta(minutes=1))
    Reconciler().tell_parents()
    assert ended(parent) == ("completed", {"got": 1})


def test_the_database_refuses_a_second_word_of_a_child() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT))
    settle(lambda job: {"n": 1})
    last = Execution.objects.get(id=parent).last_seq
    with pytest.raises(IntegrityError, match="duplicate key"), transaction.atomic():
        store.append_events(parent, [Event(last + 1, "child_completed", f"{parent}:call", "call", "step")])


@pytest.mark.parametrize(
    ("asked", "result"),
    [
        ("", {"got": 4}),
        ("return: work, ", {"n": 4}),
        ('return: "{{ work.n + workload.n }}", ', 8),
        ("return: start, ", None),
    ],
)
def test_a_child_gives_what_it_is_asked_for(asked: str, result: Any) -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT.replace("with:", f"{asked}with:")))
    settle(lambda job: {"n": 4})
    assert ended(parent) == ("completed", result)


def test_a_child_without_a_result_gives_that_of_its_last_step() -> None:
    register_playbook(book(CHILD.partition(", next: end")[0] + "}\n", "child"))
    parent = start(book(PARENT))
    settle(lambda job: {"last": True})
    assert ended(parent) == ("completed", {"last": True})


def test_a_child_that_fails_fails_its_step_and_can_be_handled() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT))
    evaluate_execution(child_of(parent).id)
    [job] = lease()
    report_results(job.execution_id, [failure(job, "no luck")])
    settle()
    assert ended(parent) == ("failed", "child_failed")
    error = get_execution(parent).error
    assert error["step"] == "call" and "no luck" in error["message"]
    assert find_violations() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PARENT.replace("tests/child", "no/such"), "child_not_found"),
        (PARENT.replace("tests/child", "tests/child:9.9.9"), "child_not_found"),
        (PARENT.replace("{n: 4}", '{steps_override: ["nope"]}'), "workload_invalid"),
    ],
)
def test_a_child_that_cannot_be_started_fails_its_step_at_once(text: str, code: str) -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(text))
    assert ended(parent) == ("failed", code)
    assert not Execution.objects.exclude(id=parent).exists()
    assert find_violations() == []


def test_a_child_that_cannot_be_started_may_be_gone_around() -> None:
    text = PARENT.replace("tests/child", "no/such").replace("next: end}", "on_error: continue, next: end}")
    parent = start(book(text.replace('"{{ call }}"', '"{{ call.error.code }}"')))
    assert ended(parent) == ("completed", "child_not_found")


def test_playbooks_that_call_themselves_come_to_an_end(settings: Any) -> None:
    settings.NOETL_MAX_CHILD_DEPTH = 3
    first = start(book(PARENT.replace("tests/child", "tests/book")))
    settle()
    assert sorted(Execution.objects.values_list("depth", "status")) == [(n, "failed") for n in range(4)]
    cause = get_execution(first).error
    while cause.get("cause"):
        cause = cause["cause"]
    assert cause["code"] == "child_too_deep"
    assert find_violations() == []


LOOP_OF_CHILDREN = """
workload: {count: 5}
workflow:
  - {step: start, next: call}
  - step: call
    type: playbook
    path: tests/child
    loop: {in: "{{ range(workload.count) | list }}", iterator: item}
    with: {n: "{{ item }}"}
    next: end
  - {step: end, result: "{{ call.results }}"}
"""


def test_a_loop_of_children_keeps_the_order_and_one_version() -> None:
    register_playbook(book(CHILD, "child"))
    text = LOOP_OF_CHILDREN.replace('"{{ range(workload.count) | list }}"', "[0, 1, 2, 3, 4]")
    parent = start(book(text.replace("iterator: item}", "iterator: item, concurrency: 2}")))
    assert Execution.objects.filter(parent_execution_id=parent).count() == 2
    settle(lambda job: {"n": job.action["inputs"]["n"] * 10})
    assert ended(parent) == ("completed", [{"got": n * 10} for n in range(5)])
    assert find_violations() == []


def test_cancelling_reaches_children_and_theirs() -> None:
    register_playbook(book(CHILD, "child"))
    register_playbook(book(PARENT, "middle"))
    top = start(book(PARENT.replace("tests/child", "tests/middle"), "top"))
    settle_children()
    [job] = lease()
    cancel_execution(top, "enough", "ada")
    assert find_violations() == []
    settle_children()
    assert set(Execution.objects.values_list("status", flat=True)) == {"cancelled"}
    bottom = Execution.objects.get(depth=2)
    assert job.execution_id == bottom.id
    [held] = extend_leases([job.fence], 60)
    assert held.cancel_requested
    assert report(job, 1) == "accepted"
    assert event(bottom.id, "late_result").result == 1
    assert not Execution.objects.filter(parent_waits=True).exists()
    assert find_violations() == []


def settle_children() -> None:
    while put_off := find_executions_to_evaluate(0, 100):
        for execution_id in put_off:
            evaluate_execution(execution_id)


def test_a_paused_child_is_cancelled_with_its_parent() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT))
    child = child_of(parent)
    evaluate_execution(child.id)
    pause_execution(child.id)
    cancel_execution(parent)
    settle_children()
    assert get_execution(child.id).status == "cancelled"


def test_a_child_with_finally_is_cancelled_once() -> None:
    text = CHILD.replace("workflow:", "finally: [tidy]\nworkflow:") + f"  - {{step: tidy, type: python, {CODE}}}\n"
    register_playbook(book(text, "child"))
    parent = start(book(PARENT))
    child = child_of(parent)
    evaluate_execution(child.id)
    cancel_execution(parent)
    settle_children()
    for _ in range(3):
        evaluate_execution(child.id)
    assert get_execution(child.id).status == "running"
    assert find_violations() == []
    settle()
    assert get_execution(child.id).status == "cancelled"
    assert types(child.id).count("cancel_requested") == 1
    assert find_violations() == []


def test_a_child_whose_step_ran_out_of_time_is_cancelled_and_not_heard() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(
        book(PARENT.replace("with:", "timeout: 5m, on_error: continue, with:").replace('"{{ call }}"', "on"))
    )
    child = child_of(parent)
    evaluate_execution(child.id)
    let_time_pass()
    assert fire() == 1
    assert ended(parent) == ("completed", "on")
    settle_children()
    assert get_execution(child.id).status == "cancelled"
    assert "child_completed" not in types(parent)
    assert find_violations() == []


def test_a_child_that_is_cancelled_by_itself_fails_its_step() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT))
    evaluate_execution(child_of(parent).id)
    cancel_execution(child_of(parent).id, "enough", "ada")
    settle()
    assert ended(parent) == ("failed", "child_cancelled")


def test_a_paused_parent_hears_of_its_child_when_it_goes_on() -> None:
    register_playbook(book(CHILD, "child"))
    parent = start(book(PARENT))
    pause_execution(parent)
    settle(lambda job: {"n": 3})
    assert get_execution(parent).status == "paused"
    assert types(parent).count("child_completed") == 1
    resume_execution(parent)
    assert ended(parent) == ("completed", {"got": 3})
    assert find_violations() == []


# -- retries --------------------------------------------------------------------------------------------

RETRY = f"""
workflow:
  - {{step: start, next: try}}
  - {{step: try, type: python, {CODE}, retry: {{max_attempts: 3, initial_delay: 10}}, next: end}}
  - {{step: end, result: "{{{{ try }}}}"}}
"""


def test_a_failed_try_is_told_and_its_job_waits_for_another() -> None:
    execution_id = start(book(RETRY))
    [job] = lease()
    assert report_results(execution_id, [failure(job, "first")]) == ["accepted"]
    row = Job.objects.get()
    assert (row.status, row.tries, row.attempts, row.lost_leases) == ("queued", 1, 1, 0)
    told = event(execution_id, "action_retry")
    assert told.context == {"try": 1, "delay_seconds": 10.0}
    assert told.error == {"code": "test", "message": "first"}
    assert lease() == []
    assert find_violations() == []
    assert report_results(execution_id, [failure(job, "again")]) == ["already_accepted"]
    let_time_pass()
    [again] = lease()
    assert (again.attempt, again.id) == (2, job.id)
    assert report_results(execution_id, [failure(job, "zombie")]) == ["already_accepted"]
    assert report(again, "good") == "accepted"
    assert ended(execution_id) == ("completed", "good")
    endings = LeaseHistory.objects.order_by("attempt").values_list("ending", flat=True)
    assert list(endings) == ["retried", "done"]
    assert find_violations() == []


def test_after_its_last_try_a_step_has_failed() -> None:
    execution_id = start(book(RETRY))
    for _ in range(3):
        let_time_pass()
        [job] = lease()
        report_results(execution_id, [failure(job)])
    assert ended(execution_id) == ("failed", "test")
    assert types(execution_id).count("action_retry") == 2
    assert types(execution_id).count("action_error") == 1
    assert find_violations() == []


def test_a_lost_lease_is_no_try_and_an_exhausted_one_is_not_repeated() -> None:
    execution_id = start(book(RETRY))
    for _ in range(5):
        lease()
        Job.objects.update(lease_until=F("lease_until") - timedelta(hours=1))
        for expired in find_expired_leases(10):
            reap_expired_lease(expired)
    assert Job.objects.get().tries == 0
    assert ended(execution_id) == ("failed", "lease_exhausted")
    assert find_violations() == []


def test_a_condition_of_a_retry_sees_the_error_and_earlier_results() -> None:
    text = RETRY.replace("next: try}", "next: limits}").replace(
        "  - {step: end",
        f"  - {{step: limits, type: python, {CODE}, next: try}}\n  - {{step: end",
    )
    condition = '"{{ error.message == limits.message and attempt < 9 }}"'
    execution_id = start(book(text.replace("initial_delay: 10}", f"initial_delay: 0, retry_when: {condition}}}")))
    report(lease()[0], {"message": "busy"})
    [job] = lease()
    report_results(execution_id, [failure(job, "busy")])
    [again] = lease()
    report_results(execution_id, [failure(again, "broken")])
    assert ended(execution_id)[0] == "failed"
    assert find_violations() == []


def test_items_of_a_loop_have_tries_of_their_own() -> None:
    text = RETRY.replace("retry:", "loop: {in: [1, 2], iterator: item}, retry:").replace(
        "initial_delay: 10", "initial_delay: 0"
    )
    execution_id = start(book(text.replace('"{{ try }}"', '"{{ try.results }}"')))
    first, second = lease(count=2)
    report_results(execution_id, [failure(first), success(second, 2)])
    [again] = lease()
    assert again.node_id == first.node_id
    report(again, 1)
    assert ended(execution_id) == ("completed", [1, 2])
    assert find_violations() == []


def test_a_job_that_was_called_off_is_not_tried_again() -> None:
    execution_id = start(book(RETRY))
    [job] = lease()
    cancel_execution(execution_id)
    assert report_results(execution_id, [failure(job)]) == ["accepted"]
    assert Job.objects.get().status == "failed"
    assert types(execution_id)[-1] == "late_result"
    assert find_violations() == []


# -- undo and finally -----------------------------------------------------------------------------------

UNDO = f"""
finally: [tidy]
workflow:
  - {{step: start, next: one}}
  - {{step: one, type: python, {CODE}, undo: {{type: python, {CODE}, with: {{n: "{{{{ one.n }}}}"}}}}, next: two}}
  - {{step: two, type: python, {CODE}, next: end}}
  - {{step: tidy, type: python, {CODE}}}
  - {{step: end}}
"""


def test_a_failure_undoes_what_was_done_and_finally_runs() -> None:
    execution_id = start(book(UNDO))
    report(lease()[0], {"n": 1})
    [job] = lease()
    report_results(execution_id, [failure(job, "no luck")])
    [undoing] = lease()
    assert (undoing.node_id, undoing.action["inputs"]) == (f"{execution_id}:one#undo", {"n": 1})
    assert find_violations() == []
    report(undoing, None)
    [tidying] = lease()
    assert tidying.node_name == "tidy"
    assert find_violations() == []
    report(tidying, None)
    assert ended(execution_id) == ("failed", "test")
    assert find_violations() == []


# -- rerun ----------------------------------------------------------------------------------------------


def chain_answer(job: LeasedJob) -> Any:
    return {"n": job.action["inputs"]["n"] + 1}


def test_a_rerun_is_linked_and_keeps_version_and_workload() -> None:
    first = start(CHAIN, {"n": 5})
    settle(chain_answer)
    start(CHAIN.replace("n * 10", "n * 11"))
    settle(chain_answer)
    again = rerun_execution(first, payload={"extra": 1}, started_by="ada")
    row = Execution.objects.get(id=again)
    assert (row.rerun_of, row.version, row.workload) == (first, "0.1.0", {"n": 5, "extra": 1})
    settle(chain_answer)
    assert get_execution(again).result == {"n": 7}
    assert find_violations() == []


def test_a_rerun_from_a_step_takes_over_what_came_before() -> None:
    first = start(CHAIN, {"n": 5})
    settle(chain_answer)
    again = rerun_execution(first, from_step="two")
    [job] = lease()
    assert (job.node_name, job.action["inputs"]) == ("two", {"n": 6})
    report(job, {"n": 100})
    assert get_execution(again).result == {"n": 100}
    assert find_violations() == []
    third = rerun_execution(again, failed_only=True)
    assert get_execution(third).result == {"n": 100}
    assert find_violations() == []


def test_a_rerun_of_what_failed_runs_what_failed() -> None:
    first = start(CHAIN, {"n": 5})
    report(lease()[0], {"n": 6})
    [job] = lease()
    report_results(first, [failure(job)])
    again = rerun_execution(first, failed_only=True)
    [job] = lease()
    assert job.node_name == "two"
    report(job, {"n": 1})
    assert get_execution(again).result == {"n": 1}
    # With other inputs nothing is the same.
    changed = rerun_execution(first, failed_only=True, payload={"n": 6})
    assert [job.node_name for job in lease(count=5) if job.execution_id == changed] == ["one"]


def test_a_rerun_takes_over_children() -> None:
    register_playbook(book(CHILD, "child"))
    first = start(book(PARENT))
    settle(lambda job: {"n": 4})
    again = rerun_execution(first, failed_only=True)
    assert ended(again) == ("completed", {"got": 4})
    assert not Execution.objects.filter(parent_execution_id=again).exists()
    assert find_violations() == []


# -- large results --------------------------------------------------------------------------------------

LARGE = {"rows": ["x" * 1000] * 100, "n": 3}


def test_a_large_result_is_beside_the_log_and_read_as_if_it_were_in_it() -> None:
    execution_id = start(
        CHAIN.replace('result: {n: "{{ two.n }}"}', 'result: {all: "{{ two.rows }}", n: "{{ one.rows | length }}"}')
    )
    report(lease()[0], LARGE)
    stored = LargeResult.objects.get()
    outcome = event(execution_id, "action_completed")
    assert outcome.result == {"$ref": {"sha256": stored.key, "bytes": stored.bytes}}
    assert outcome.result_ref == stored.key
    [job] = lease()
    assert job.action["inputs"] == {"n": 3}
    report(job, LARGE)
    assert get_execution(execution_id).result == {"all": LARGE["rows"], "n": 100}
    assert Rendering(execution_id, {}).render("{{ one.rows | length }}") == 100
    # The same twice is one row; the execution's own result is another.
    assert LargeResult.objects.count() == 2
    assert find_violations() == []


def test_data_that_looks_like_a_reference_is_data() -> None:
    execution_id = start(CHAIN.replace('result: {n: "{{ two.n }}"}', 'result: "{{ two }}"'))
    report(lease()[0], LARGE)
    forged = {"$ref": {"sha256": LargeResult.objects.get().key, "bytes": 1}}
    report(lease()[0], forged)
    assert get_execution(execution_id).result == forged
    assert event(execution_id, "action_completed").result_ref is None


def test_a_large_result_of_a_child_reaches_its_parent() -> None:
    register_playbook(book(CHILD.replace('{got: "{{ work.n }}"}', '"{{ work }}"'), "child"))
    parent = start(book(PARENT))
    settle(lambda job: LARGE)
    assert ended(parent) == ("completed", LARGE)
    assert {row.execution_id for row in LargeResult.objects.all()} == {
        parent,
        *Execution.objects.filter(parent_execution_id=parent).values_list("id", flat=True),
    }
    assert find_violations() == []


# -- verify ---------------------------------------------------------------------------------------------

CHILD_SEEDED = {
    "ended_execution_waits_for_no_child": "UPDATE execution SET status = 'failed', ended_at = now() WHERE depth = 0",
    "unwanted_child_is_cancelled": "UPDATE execution SET parent_waits = false WHERE depth = 1",
    "ended_child_is_told": "UPDATE execution SET status = 'failed', ended_at = now() - interval '1h' WHERE depth = 1",
    "child_has_its_parents_word": "UPDATE execution SET parent_node_id = 'x' WHERE depth = 1",
    "running_node_has_its_job": "DELETE FROM execution WHERE depth = 1",
    "live_execution_has_work": "DELETE FROM execution WHERE depth = 1",
}


@pytest.mark.parametrize("invariant", list(CHILD_SEEDED))
def test_verify_sees_a_fault_between_parent_and_child(invariant: str) -> None:
    register_playbook(book(CHILD, "child"))
    start(book(PARENT))
    assert find_violations() == []
    with connection.cursor() as cursor:
        cursor.execute(CHILD_SEEDED[invariant])
    assert invariant in {violation.invariant for violation in find_violations()}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM frame WHERE key = '1.1'",
        "UPDATE frame SET data = '{}'",
        "INSERT INTO frame SELECT id, '1.9', '{}' FROM execution",
    ],
)
def test_verify_sees_frames_that_are_not_the_logs(statement: str) -> None:
    start(book(EACH))
    assert find_violations() == []
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert [violation.invariant for violation in find_violations()] == ["fold_of_log_is_state"]


@pytest.mark.parametrize(("text", "table"), [(WAIT, "timer"), (RETRY, "queue")])
def test_verify_sees_that_nothing_will_go_on(text: str, table: str) -> None:
    start(book(text))
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table}")
    assert "live_execution_has_work" in {violation.invariant for violation in find_violations()}


def command(*words: str) -> str:
    out = StringIO()
    call_command("executions", *words, stdout=out)
    return out.getvalue()


def test_an_execution_is_steered_and_explained_from_the_command_line() -> None:
    ask = "{step: ask, type: approval, message: ship it?, next: end}"
    id_ = str(start(book(f"workflow: [{{step: start, next: ask}}, {ask}, {{step: end}}]")))
    assert "ask waits for approval" in command("explain", id_)
    assert command("pause", id_).strip() == "paused"
    assert command("resume", id_).strip() == "running"
    command("signal", id_, "go", "--data", '{"n": 1}')
    assert command("approve", id_, "ask").strip() == "completed"
    again = json.loads(command("rerun", id_, "--failed", "--set", "k=1", "--json"))
    assert again["rerun_of"] == id_
    assert get_execution(again["execution_id"]).workload == {"k": 1}
    with pytest.raises(NotPausable):
        command("resume", id_)
