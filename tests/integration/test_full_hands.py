"""Many jobs and results of one execution at once; and what must be in one transaction, by one clock."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from catalog.api import register_playbook
from executions import store
from executions.api import evaluate_execution, get_execution, report_and_take, report_results
from executions.domain import planner
from executions.models import Execution
from executors.selectors import find_violations
from queueing.api import LeasedJob, Take, find_expired_leases
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, FAN, lease, report, start, success, work_off
from tests.support.language import CHILD, book
from tests.support.schedules import in_thread, wait_until_waiting

pytestmark = pytest.mark.usefixtures("fresh_db")

FIRST_THEN_CHILD = """
workflow:
  - {step: start, next: one}
  - {step: one, type: python, code: "def main(): return 1", next: call}
  - {step: call, type: playbook, path: tests/child, with: {n: 4}, next: end}
  - {step: end, result: "{{ call }}"}
"""


def answer(job: LeasedJob) -> Any:
    return job.action["inputs"]["item"] * 2


def test_fifty_results_survive_a_broken_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    execution_id = start(FAN, {"items": list(range(50))})
    jobs = lease(count=50)

    def break_down(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the evaluator is broken")

    take = Take("w1", ["default"], 50, 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(planner, "_settle", break_down)
        judgements, taken = report_and_take(execution_id, [success(job, answer(job)) for job in jobs], take)
    assert judgements == ["accepted"] * 50
    assert taken == []
    assert Execution.objects.get(id=execution_id).needs_evaluation_since is not None
    assert find_violations() == []
    # The same worker repeats itself, as it does when it has not heard of the commit.
    assert report_results(execution_id, [success(job, answer(job)) for job in jobs]) == ["already_accepted"] * 50
    assert evaluate_execution(execution_id)
    assert get_execution(execution_id).result == {"results": [2 * item for item in range(50)]}
    assert find_violations() == []


def test_one_lost_lease_spares_the_rest_of_a_hand() -> None:
    execution_id = start(FAN, {"items": list(range(10))})
    jobs = lease(count=10)
    Job.objects.filter(id=jobs[3].id).update(lease_token=jobs[3].uuid)
    expected = ["accepted"] * 3 + ["lease_lost"] + ["accepted"] * 6
    assert report_results(execution_id, [success(job, answer(job)) for job in jobs]) == expected
    assert LeaseHistory.objects.filter(execution_id=execution_id, ending="done").count() == 9


def test_a_report_takes_no_job_that_is_being_leased() -> None:
    execution_id = start(FAN, {"items": [1, 2]})
    [first] = lease()
    take = Take("slow", ["default"], 10, 60.0)
    with transaction.atomic():
        [second] = lease("quick")
        slow = in_thread(lambda: report_and_take(execution_id, [success(first, answer(first))], take))
        wait_until_waiting(slow)
    assert slow.result(30) == (["accepted"], [])
    report(second, answer(second))
    assert get_execution(execution_id).status == "completed"
    assert find_violations() == []


def test_a_lease_ends_by_the_clock_of_the_database_alone() -> None:
    """An hour ahead of this process, which changes nothing: whoever leases is told by the one clock."""
    execution_id = start(CHAIN)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('noetl.clock_offset', '1 hour', false)")
    lease()
    assert find_expired_leases(10) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('noetl.clock_offset', '1 hour 2 minutes', false)")
    assert [expired.execution_id for expired in find_expired_leases(10)] == [execution_id]
    connection.close()


def test_a_child_is_started_with_what_its_parent_plans_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    register_playbook(book(CHILD, "child"))
    execution_id = start(book(FIRST_THEN_CHILD))
    [job] = lease()

    def go_away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("the database went away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_state", go_away)
        with pytest.raises(OperationalError):
            report(job, 1)
    assert list(Execution.objects.values_list("id", flat=True)) == [execution_id]
    assert report(job, 1) == "accepted"
    assert Execution.objects.filter(parent_execution_id=execution_id).count() == 1
    for child in Execution.objects.filter(parent_execution_id=execution_id):
        evaluate_execution(child.id)
    work_off(lambda job: {"n": 40})
    evaluate_execution(execution_id, wait=True)
    assert get_execution(execution_id).status == "completed"
    assert find_violations() == []
