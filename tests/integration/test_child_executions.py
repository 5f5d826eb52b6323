"""Child executions on the server's tables: started, told of, cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F

from catalog.api import register_playbook
from executions import nudges, store
from executions.api import (
    cancel_execution,
    evaluate_execution,
    find_executions_to_evaluate,
    get_execution,
    pause_execution,
    report_results,
    resume_execution,
)
from executions.domain.events import Event
from executions.models import Execution
from executors.selectors import find_violations
from executors.worker.reconciler import Reconciler
from queueing.api import extend_leases
from tests.support.books import failure, lease, report, start, work_off
from tests.support.language import CHILD, CODE, PARENT, book, ended, event, fire, let_time_pass, settle, types

pytestmark = pytest.mark.usefixtures("fresh_db")


# -- children -------------------------------------------------------------------------------------------


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


def test_a_parent_that_goes_on_is_not_told_again() -> None:
    register_playbook(book(CHILD, "child"))
    text = PARENT.replace("next: end}", "next: more}") + f"  - {{step: more, type: python, {CODE}, next: end}}\n"
    parent = start(book(text))
    evaluate_execution(child_of(parent).id)
    report(lease()[0], {"n": 1})
    for _ in range(3):
        evaluate_execution(parent, wait=True)
    assert types(parent).count("child_completed") == 1
    [job] = lease()
    assert (job.execution_id, job.node_name) == (parent, "more")
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


def test_a_child_that_goes_on_before_it_hears_of_its_end_is_still_cancelled() -> None:
    more = CHILD.replace("next: end}", "next: more}") + f"  - {{step: more, type: python, {CODE}, next: end}}\n"
    register_playbook(book(more, "child"))
    parent = start(book(PARENT))
    child = child_of(parent)
    evaluate_execution(child.id)
    [job] = lease()
    cancel_execution(parent)
    assert report(job, {"n": 1}) == "accepted"
    assert get_execution(child.id).status == "running"
    settle_children()
    assert get_execution(child.id).status == "cancelled"
    assert find_violations() == []


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
