"""The whole language on the server's tables: frames, timers, waits, pauses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import F

from executions import nudges, store
from executions.api import (
    ApprovalClosed,
    Approver,
    ExecutionEnded,
    NotApprover,
    NotPausable,
    answer_approval,
    cancel_execution,
    evaluate_execution,
    get_execution,
    pause_execution,
    reap_expired_lease,
    report_results,
    resume_execution,
    send_signal,
)
from executions.models import Execution, StoredFrame, Timer
from executors.selectors import find_violations
from executors.worker.reconciler import Reconciler
from queueing.api import find_expired_leases, release_jobs
from queueing.models import Job
from tests.support.books import CHAIN, failure, lease, report, start, success
from tests.support.language import CODE, EACH, WAIT, book, ended, event, fire, let_time_pass, settle, types

pytestmark = pytest.mark.usefixtures("fresh_db")


# -- frames ---------------------------------------------------------------------------------------------


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


def test_a_timer_that_is_not_due_stays() -> None:
    start(book("timeout: 1h\n" + WAIT))
    Timer.objects.filter(kind="wait").update(due_at=F("due_at") - timedelta(days=1))
    assert fire() == 1
    assert not Timer.objects.filter(kind="wait").exists()
    execution_id = start(book("timeout: 1h\n" + WAIT))
    Timer.objects.filter(execution_id=execution_id, kind="timeout").update(due_at=F("due_at") - timedelta(days=1))
    assert fire() == 1
    assert ended(execution_id) == ("failed", "timeout")


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


def refuse_next_state() -> None:
    """Let the database refuse the next state that is stored; what comes after it is taken."""
    with connections["admin"].cursor() as cursor:
        cursor.execute(
            # A sequence goes on whatever is rolled back.
            "CREATE SEQUENCE noetl.states;"
            "CREATE FUNCTION noetl.refuse_first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
            " IF nextval('noetl.states') = 1 THEN RAISE 'not this one' USING ERRCODE = 'check_violation'; END IF;"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER refusing BEFORE UPDATE OF state ON noetl.execution"
            " FOR EACH ROW EXECUTE FUNCTION noetl.refuse_first()"
        )


def test_an_evaluation_that_could_not_be_stored_leaves_no_gap_in_the_log() -> None:
    execution_id = start(book(SIGNAL))
    refuse_next_state()
    send_signal(execution_id, "payment", 5)
    assert "not this one" in Execution.objects.get().evaluation_error
    assert find_violations() == []
    send_signal(execution_id, "other")
    evaluate_execution(execution_id)
    assert ended(execution_id) == ("completed", 5)
    assert find_violations() == []


def test_a_timer_whose_evaluation_could_not_be_stored_leaves_none_either() -> None:
    execution_id = start(book(WAIT))
    let_time_pass()
    refuse_next_state()
    assert fire() == 1
    assert find_violations() == []
    send_signal(execution_id, "other")
    evaluate_execution(execution_id)
    assert ended(execution_id) == ("completed", "done")
    assert find_violations() == []


def test_an_end_that_could_not_be_stored_is_cancelled_without_its_plan() -> None:
    execution_id = start(book(WAIT))
    refuse_next_state()
    cancel_execution(execution_id, "enough", "ada")
    assert ended(execution_id)[0] == "cancelled"
    assert types(execution_id)[-2:] == ["cancel_requested", "execution_cancelled"]
    assert find_violations() == []


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
