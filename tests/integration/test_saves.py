"""Saves on the server's tables: their jobs, what is stored while they run, and what `verify` sees of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from executions import store
from executions.api import cancel_execution, pause_execution, report_results, rerun_execution, resume_execution
from executions.domain.facts import Facts
from executions.domain.wanted import Wanted
from executions.models import EventLog, Execution, LargeResult
from executors.selectors import find_violations
from queueing.api import LeasedJob
from queueing.models import Job
from tests.support.books import failure, lease, report, start, success, work_off
from tests.support.language import CODE, book, ended, fire, let_time_pass, settle

pytestmark = pytest.mark.usefixtures("fresh_db")

SAVING = f"""
workflow:
  - {{step: start, next: act}}
  - {{step: act, type: python, {CODE}, save: {{data: "{{{{ data.n }}}}"%s}}, next: end}}
  - {{step: end, result: ["{{{{ act.n }}}}", "{{{{ steps.act.meta }}}}"]}}
"""


def saving(options: str = "") -> str:
    return book(SAVING % options)


def answer(job: LeasedJob) -> Any:
    """A save says what it was handed, anything else a number."""
    return {"saved": "event", "data": job.action["arguments"]["data"]} if job.kind == "save" else {"n": 7}


def test_a_step_ends_with_its_save() -> None:
    execution_id = start(saving())
    [act] = lease()
    report(act, {"n": 7})
    assert find_violations() == []
    [save] = lease()
    assert (save.kind, save.node_id) == ("save", f"{execution_id}:act#save")
    assert save.action["arguments"] == {"storage": "event_log", "data": 7}
    assert not EventLog.objects.filter(execution_id=execution_id, node_name="end").exists()
    report(save, {"saved": "event", "data": 7})
    assert ended(execution_id) == ("completed", [7, {"save": {"saved": "event", "data": 7}}])
    assert find_violations() == []


def test_a_lost_save_is_a_failed_one_and_its_retry_is_its_own() -> None:
    execution_id = start(saving(", retry: {max_attempts: 2, initial_delay: 10}"))
    work_one(7)
    [save] = lease()
    assert report_results(execution_id, [failure(save, "first")]) == ["accepted"]
    assert Job.objects.get(node_id=save.node_id).status == "queued"
    assert (lease(), find_violations()) == ([], [])
    let_time_pass()
    [again] = lease()
    assert report_results(execution_id, [failure(again, "for good")]) == ["accepted"]
    error = {"code": "test", "message": "for good"}
    assert ended(execution_id) == ("completed", [7, {"save_error": error}])
    assert find_violations() == []


def work_one(number: int) -> None:
    [job] = lease()
    report(job, {"n": number})


def test_a_save_waits_for_a_paused_execution_and_ends_with_a_cancelled_one() -> None:
    execution_id = start(saving())
    [act] = lease()
    pause_execution(execution_id)
    report(act, {"n": 7})
    assert lease() == []
    resume_execution(execution_id)
    [save] = lease()
    cancel_execution(execution_id, "no more", "ann")
    assert report_results(execution_id, [success(save, {})]) == ["accepted"]
    assert ended(execution_id)[0] == "cancelled"
    last = EventLog.objects.filter(execution_id=execution_id).order_by("-seq")[0]
    assert (last.event_type, last.node_id) == ("late_result", save.node_id)
    assert find_violations() == []


def test_a_routing_step_that_saves_has_its_job() -> None:
    execution_id = start(book("workflow:\n  - {step: start, save: {data: 1}, next: end}\n  - {step: end, result: 2}\n"))
    assert find_violations() == []
    settle(answer)
    assert ended(execution_id) == ("completed", 2)


LARGE = """
workflow:
  - {step: start, transform: {mapping: {text: "{{ 'x' * 20 }}", at: "{{ now() }}"}}, save: {}, next: end}
  - {step: end, result: "{{ [start.text, start.at == steps.start.meta.save.data.at] }}"}
"""


def test_a_result_is_kept_while_its_save_runs_also_a_large_one(settings: Any) -> None:
    settings.NOETL_INLINE_RESULT_BYTES = 10
    execution_id = start(book(LARGE))
    assert LargeResult.objects.filter(execution_id=execution_id).count() == 1
    settle(answer)
    assert ended(execution_id) == ("completed", ["x" * 20, True])
    assert find_violations() == []


EACH = f"""
workload: {{n: 1000}}
workflow:
  - {{step: start, next: each}}
  - step: each
    type: python
    loop: {{in: "{{{{ range(workload.n) | list }}}}", iterator: x, save: {{data: "{{{{ [x, data.n] }}}}"}}}}
    {CODE}
    next: end
  - {{step: end, result: "{{{{ steps.each.meta }}}}"}}
"""


def test_the_items_of_a_loop_of_a_thousand_are_saved_by_ten_jobs() -> None:
    execution_id = start(book(EACH))
    handed: list[list[Any]] = []

    def keep(job: LeasedJob) -> Any:
        if job.kind == "save":
            handed.append(job.action["arguments"]["data"])
        return answer(job)

    work_off(keep, batch=50)
    assert sorted(len(data) for data in handed) == [100] * 10
    assert sorted(entry for data in handed for entry in data) == [[number, 7] for number in range(1000)]
    assert ended(execution_id) == ("completed", {"item_saves": {"items": 1000, "errors": []}})
    saves = EventLog.objects.filter(execution_id=execution_id, event_type="save_started")
    contexts = [one.context or {} for one in saves]
    assert sorted((context["first"], context["last"]) for context in contexts)[:2] == [(0, 99), (100, 199)]
    assert find_violations() == []


def test_a_state_rebuilt_from_the_log_goes_on_saving() -> None:
    execution_id = start(book(EACH), {"n": 250})
    for _ in range(2):
        for job in lease(count=60):
            report(job, answer(job))
    Execution.objects.filter(id=execution_id).update(state=None)
    settle(answer)
    assert ended(execution_id) == ("completed", {"item_saves": {"items": 250, "errors": []}})
    assert Job.objects.filter(execution_id=execution_id, kind="save").count() == 3
    assert find_violations() == []


def test_a_loop_that_is_called_off_takes_its_saves_along() -> None:
    text = book(EACH.replace("type: python", "type: python\n    timeout: 5", 1))
    execution_id = start(text, {"n": 120})
    for job in lease(count=100):
        report(job, answer(job))
    assert Job.objects.get(execution_id=execution_id, kind="save").status == "queued"
    let_time_pass()
    fire()
    settle(answer)
    assert ended(execution_id) == ("failed", "timeout")
    assert Job.objects.get(execution_id=execution_id, kind="save").status == "cancelled"
    assert find_violations() == []


def test_a_rerun_takes_over_what_was_saved() -> None:
    execution_id = start(saving())
    settle(answer)
    again = rerun_execution(execution_id, from_step="end")
    settle(answer)
    assert ended(again) == ended(execution_id)
    assert not Job.objects.filter(execution_id=again, kind="save").exists()
    assert find_violations() == []


OVER_STEPS = f"""
workflow:
  - {{step: start, next: [each, other]}}
  - step: each
    loop: {{in: [1, 2], iterator: x}}
    timeout: 5
    on_error: continue
    save: {{data: "{{{{ count }}}}"}}
    next: inner
  - {{step: inner, type: python, {CODE}, next: close}}
  - {{step: close, end_loop: each, next: end}}
  - {{step: other, type: python, {CODE}}}
  - {{step: end, result: "{{{{ each.error.code }}}}"}}
"""


def test_a_step_without_an_action_that_runs_out_of_time_takes_its_save_along() -> None:
    execution_id = start(book(OVER_STEPS))
    jobs = lease(count=3)
    for job in jobs:
        if job.node_name == "inner":
            report(job, answer(job))
    assert Job.objects.get(kind="save").node_id == f"{execution_id}:each#save"
    let_time_pass()
    fire()
    assert Job.objects.get(kind="save").status == "cancelled"
    assert find_violations() == []
    report(next(job for job in jobs if job.node_name == "other"), 1)
    assert ended(execution_id) == ("completed", "timeout")


def test_all_items_of_a_large_loop_are_read_at_a_cost_of_their_number() -> None:
    """They stand in one event: to unpack that for each of them would cost its square."""
    text = f"""
workflow:
  - {{step: start, next: each}}
  - {{step: each, type: python, {CODE}, loop: {{in: "{{{{ workload.all }}}}", iterator: x, mode: sequential}}}}
"""
    items = [f"{number} {'of many' * 20}" for number in range(5000)]
    execution_id = start(book(text), {"all": items})
    node = f"{execution_id}:each"

    def seconds(count: int) -> float:
        facts = Facts(str(execution_id), "", {})
        began = time.perf_counter()
        store.load_facts(facts, Wanted(items={(node, place) for place in range(count)}))
        assert [facts.items[node, place] for place in range(count)] == items[:count]
        return time.perf_counter() - began

    one = min(seconds(1) for _ in range(5))
    assert min(seconds(5000) for _ in range(3)) < 500 * one
