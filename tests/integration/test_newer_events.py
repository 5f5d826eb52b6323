"""Two releases at work together: what the newer one has written, the older one refuses to read and never misreads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db.models import F

from catalog.api import register_playbook
from executions.api import (
    EventsTooNew,
    cancel_execution,
    evaluate_execution,
    find_executions_to_evaluate,
    find_fold_difference,
    get_execution,
    read_log,
    report_results,
)
from executions.domain import events as ev
from executions.domain import state as states
from executions.models import EventLog, Execution
from executors.selectors import find_violations
from executors.worker.gateway import DatabaseGateway
from queueing.api import LeasedJob
from queueing.models import Job, LeaseHistory
from tests.support.api import admin_api
from tests.support.books import CHAIN, FAN, failure, lease, report, start, success, work_off
from tests.support.language import CHILD, PARENT, book, let_time_pass, types

pytestmark = pytest.mark.usefixtures("fresh_db")

TOO_NEW = "has events of format 2, and this release knows no format after 1"
RETRIED = """
workflow:
  - {step: start, next: one}
  - {step: one, type: python, code: "def main(): return 1", retry: {max_attempts: 2}, next: end}
  - {step: end, result: "{{ one }}"}
"""


@contextmanager
def newer_release() -> Iterator[None]:
    """Work as one whose events have another form, and so its states."""
    with patch.object(ev, "FORMAT", ev.FORMAT + 1), patch.object(states, "FORMAT", states.FORMAT + 1):
        yield


def answer(job: LeasedJob) -> Any:
    n = job.action["inputs"]["n"]
    return {"n": n + 1} if job.node_name == "one" else {"n": n * 10}


def started_by_the_newer(text: str) -> int:
    with newer_release():
        return start(text)


def test_a_result_is_kept_and_its_evaluation_is_left_to_the_newer_release() -> None:
    execution_id = started_by_the_newer(CHAIN)
    [job] = lease()
    assert report(job, answer(job)) == "accepted"
    assert evaluate_execution(execution_id)
    row = Execution.objects.get(id=execution_id)
    assert row.needs_evaluation_since is not None
    assert TOO_NEW in row.evaluation_error
    # Nothing was planned: neither the next step nor a bad end.
    assert lease() == []
    written = list(EventLog.objects.filter(execution_id=execution_id).order_by("seq"))
    assert [(row.event_type, row.format) for row in written[-2:]] == [("action_started", 1), ("action_completed", 1)]
    with newer_release():
        assert evaluate_execution(execution_id)
        assert work_off(answer) == 1
        assert get_execution(execution_id).result == {"n": 20}
        assert find_violations() == []


def test_whether_a_step_has_another_try_is_not_guessed() -> None:
    execution_id = started_by_the_newer(book(RETRIED))
    [job] = lease()
    with pytest.raises(EventsTooNew, match=TOO_NEW):
        report_results(execution_id, [failure(job)])
    with newer_release():
        assert report_results(execution_id, [failure(job)]) == ["accepted"]
    assert EventLog.objects.filter(execution_id=execution_id).latest("seq").event_type == "action_retry"
    assert Job.objects.get(id=job.id).status == "queued"


def test_a_worker_hands_in_what_succeeded_and_gives_back_what_failed() -> None:
    retried = FAN.replace("    type: python\n", "    type: python\n    retry: {max_attempts: 2}\n")
    execution_id = started_by_the_newer(retried)
    jobs = lease(count=5)
    reports = [failure(job) if job.item_index == 2 else success(job, job.item_index) for job in jobs]
    judged, leased = DatabaseGateway().report(execution_id, reports, None)
    assert judged == ["accepted", "accepted", "lease_lost", "accepted", "accepted"]
    assert leased == []
    # Nothing is counted against it, and this release does not run it again at once.
    row = Job.objects.get(id=jobs[2].id)
    assert (row.status, row.tries, row.lost_leases) == ("queued", 0, 0)
    assert LeaseHistory.objects.get(job_id=row.id).ending == "released"
    assert lease() == []
    with newer_release():
        let_time_pass()
        [again] = lease()
        assert (again.id, again.attempt) == (row.id, 2)
        assert report(again, 2) == "accepted"
        assert get_execution(execution_id).result == {"results": [0, 1, 2, 3, 4]}
        assert find_violations() == []


def test_an_execution_is_not_cancelled_without_its_plan(caplog: pytest.LogCaptureFixture) -> None:
    execution_id = started_by_the_newer(CHAIN)
    answered = admin_api().post(f"executions/{execution_id}/cancel", {"reason": "enough"})
    assert (answered.status_code, answered.json()["code"]) == (503, "events_too_new")
    assert get_execution(execution_id).status == "running"
    assert "without its plan" not in caplog.text
    with newer_release():
        assert admin_api().post(f"executions/{execution_id}/cancel", {"reason": "enough"}).status_code == 200
    assert get_execution(execution_id).status == "cancelled"


def test_a_child_that_cannot_be_cancelled_yet_is_tried_less_and_less_often() -> None:
    with newer_release():
        register_playbook(book(CHILD, "child"), "test")
        parent_id = start(book(PARENT))
        child_id = Execution.objects.get(parent_execution_id=parent_id).id
        assert evaluate_execution(child_id)
        cancel_execution(parent_id)
    log = types(child_id)
    assert find_executions_to_evaluate(0, 10) == [child_id]
    for failures in (1, 2):
        assert evaluate_execution(child_id)
        row = Execution.objects.get(id=child_id)
        assert (row.status, row.evaluation_failures) == ("running", failures)
        assert TOO_NEW in row.evaluation_error
        # It is asked for still, and nothing of it is in the log.
        assert row.cancel_reason and types(child_id) == log and row.last_seq == len(log)
    Execution.objects.update(
        needs_evaluation_since=F("needs_evaluation_since") - timedelta(minutes=1),
        updated_at=F("updated_at") - timedelta(seconds=30),
    )
    assert find_executions_to_evaluate(10, 10) == []
    assert find_executions_to_evaluate(5, 10) == [child_id]
    with newer_release():
        assert evaluate_execution(child_id)
        assert get_execution(child_id).status == "cancelled"
        assert find_violations() == []


def test_whoever_reads_such_a_log_is_told() -> None:
    execution_id = started_by_the_newer(CHAIN)
    with pytest.raises(EventsTooNew, match=TOO_NEW):
        read_log(execution_id)
    # A state that this release has stored, and events that the newer one has written since.
    execution_id = start(CHAIN)
    with newer_release():
        [job] = [job for job in lease(count=2) if job.execution_id == execution_id]
        report_results(execution_id, [failure(job)], evaluate_later=True)
    assert find_fold_difference(execution_id) == ""
    assert evaluate_execution(execution_id)
    assert get_execution(execution_id).status == "running"
    assert TOO_NEW in Execution.objects.get(id=execution_id).evaluation_error


def test_a_newer_form_of_events_is_a_newer_one_of_the_state() -> None:
    """An older release must not go on from a state that it seems to know: it would never look at the log."""
    import importlib.util
    import sys

    assert states.__spec__ is not None
    with patch.object(ev, "FORMAT", ev.FORMAT + 1), patch.dict(sys.modules):
        spec = importlib.util.find_spec(states.__name__)
        assert spec is not None and spec.loader is not None
        later = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = later
        spec.loader.exec_module(later)
    assert later.FORMAT == states.FORMAT + 1
