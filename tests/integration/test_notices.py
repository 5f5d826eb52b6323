"""`notify` of a playbook on the server's tables: durable, tried again, told of in the events, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from executions.api import cancel_execution, explain_execution, get_execution, report_results, rerun_execution
from executions.models import Execution, Timer
from executors.selectors import find_violations
from queueing.api import LeasedJob
from queueing.models import Job
from tests.support.books import failure, lease, report, start
from tests.support.language import CHILD, CODE, PARENT, book, ended, event, fire, let_time_pass, settle, types

pytestmark = pytest.mark.usefixtures("fresh_db")

TOLD = f"""
notify: {{on: [failure, late, cancelled], late_after: 10m, to: "json://shop.example", retry: {{initial_delay: 5}}}}
workflow:
  - {{step: start, type: python, {CODE}, next: end}}
  - {{step: end, result: over}}
"""


def tell(job: LeasedJob) -> dict[str, Any]:
    assert job.kind == "notify"
    return dict(job.action["arguments"])


def test_a_failure_is_told_by_a_job_that_is_tried_again() -> None:
    execution_id = start(book(TOLD))
    [job] = lease()
    report_results(execution_id, [failure(job, "no luck")])
    assert get_execution(execution_id).status == "running"
    assert not Timer.objects.exists()
    [telling] = lease()
    assert tell(telling)["title"] == "tests/book failed"
    assert find_violations() == []
    report_results(execution_id, [failure(telling, "gone")])
    assert (get_execution(execution_id).status, lease()) == ("running", [])
    assert find_violations() == []
    let_time_pass()
    [again] = lease()
    report(again, {"sent": [], "failed": []})
    assert ended(execution_id) == ("failed", "test")
    assert types(execution_id)[-1] == "execution_failed"
    assert find_violations() == []


def test_a_telling_that_fails_for_good_is_in_the_events_and_changes_nothing() -> None:
    execution_id = start(book(TOLD.replace("[failure, late, cancelled], late_after: 10m", "[success]")))
    report(lease()[0], 1)
    for _ in range(3):
        [telling] = lease()
        report_results(execution_id, [failure(telling, "gone")])
        let_time_pass()
    assert ended(execution_id) == ("completed", "over")
    told = event(execution_id, "step_failed")
    assert (told.node_name, told.error) == ("notify of the end", {"code": "test", "message": "gone"})
    assert find_violations() == []


def test_lateness_is_told_once_while_it_runs() -> None:
    execution_id = start(book(TOLD))
    [job] = lease()
    assert [(timer.kind, timer.node_id) for timer in Timer.objects.all()] == [
        ("late", f"{execution_id}:notify of lateness")
    ]
    let_time_pass()
    assert (fire(), fire()) == (1, 0)
    [telling] = lease()
    assert tell(telling)["title"] == "tests/book is late"
    assert find_violations() == []
    report(telling, None)
    assert (get_execution(execution_id).status, get_execution(execution_id).progress) == ("running", 0)
    report(job, 1)
    assert ended(execution_id) == ("completed", "over")
    assert types(execution_id).count("timer_fired") == 1
    assert find_violations() == []


def test_that_it_will_be_late_keeps_no_execution_going() -> None:
    """An execution with nothing but the timer of its lateness is one that was forgotten."""
    execution_id = start(book(TOLD))
    [job] = lease()
    assert find_violations() == []
    Job.objects.filter(id=job.id).update(status="done", lease_token=None, worker_id=None, lease_until=None)
    assert "live_execution_has_work" in {violation.invariant for violation in find_violations()}
    assert Timer.objects.filter(execution_id=execution_id).exists()


def test_a_cancellation_is_told_and_a_second_one_ends_it() -> None:
    execution_id = start(book(TOLD))
    cancel_execution(execution_id, reason="enough", cancelled_by="ada")
    assert get_execution(execution_id).status == "running"
    [telling] = lease()
    assert tell(telling)["level"] == "warning"
    cancel_execution(execution_id, reason="at once", cancelled_by="bob")
    assert get_execution(execution_id).status == "cancelled"
    assert event(execution_id, "execution_cancelled").meta == {"reason": "enough", "by": "ada"}
    assert find_violations() == []


def test_a_child_and_a_rerun_tell_their_own() -> None:
    notify = 'notify: {on: success, to: "json://x.example"}\n'
    start(book(notify + CHILD.lstrip(), "child"))
    settle(lambda job: job.action["inputs"])
    parent = start(book(PARENT, "parent"))
    told: list[str] = []

    def answer(job: LeasedJob) -> Any:
        told.append(job.kind)
        return job.action["inputs"]

    settle(answer)
    assert ended(parent) == ("completed", {"got": 4})
    assert told == ["python", "notify"]
    told.clear()
    child = Execution.objects.filter(parent_execution_id=parent).get()
    rerun_execution(child.id, failed_only=True)
    settle(answer)
    assert told == ["notify"]
    assert find_violations() == []


def test_explain_tells_when_it_tells() -> None:
    execution_id = start(book(TOLD))
    settle(lambda job: None)
    told = {each.step: each.reasons for each in explain_execution(execution_id)}
    assert told["notify of the end"] == ["`notify` tells of it on failure or cancelled"]
    assert told["notify of lateness"] == ["`notify` tells of it on late"]
    failed = start(book(TOLD))
    report_results(failed, [failure(lease()[0])])
    settle(lambda job: None)
    told = {each.step: each.reasons for each in explain_execution(failed)}
    assert told["notify of the end"] == ["`notify` tells how it ended"]
