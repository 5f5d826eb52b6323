"""Tries, undoing, reruns and large results on the server's tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from catalog.api import register_playbook
from executions.api import (
    Rendering,
    cancel_execution,
    get_execution,
    reap_expired_lease,
    report_results,
    rerun_execution,
)
from executions.models import Execution, LargeResult
from executors.selectors import find_violations
from queueing.api import LeasedJob, find_expired_leases
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, failure, lease, report, start, success
from tests.support.language import CHILD, CODE, PARENT, book, ended, event, let_time_pass, settle, types

pytestmark = pytest.mark.usefixtures("fresh_db")


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


def test_a_failed_try_may_ask_for_a_longer_pause() -> None:
    execution_id = start(book(RETRY))
    [job] = lease()
    busy = {"code": "http_status", "message": "HTTP 503", "retry_after_seconds": 60}
    assert report_results(execution_id, [replace(failure(job), error=busy)]) == ["accepted"]
    told = event(execution_id, "action_retry")
    assert told.context == {"try": 1, "delay_seconds": 60.0} and told.error == busy
    Job.objects.update(available_at=F("available_at") - timedelta(seconds=30))
    assert lease() == []
    Job.objects.update(available_at=F("available_at") - timedelta(seconds=31))
    [again] = lease()
    assert report(again, "good") == "accepted"
    assert ended(execution_id) == ("completed", "good")
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
