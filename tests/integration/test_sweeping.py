"""The sweep's repair: executions that own nothing, as rows were removed or a mark was lost, go on and tell of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from catalog.api import register_playbook
from executions.api import (
    cancel_execution,
    get_execution,
    pause_execution,
    repair_execution,
    report_results,
    send_signal,
)
from executions.models import EventLog, Execution, Timer
from executors.selectors import find_violations
from executors.worker.reconciler import Reconciler
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, FAN, failure, lease, report, start, work_off
from tests.support.language import CHILD, CODE, EACH, PARENT, WAIT, book, ended, fire, let_time_pass, settle, types

pytestmark = pytest.mark.usefixtures("fresh_db")

NESTED = f"""
workload: {{rows: [[1, 2], [3]]}}
workflow:
  - {{step: start, next: rows}}
  - step: rows
    loop: {{in: "{{{{ workload.rows }}}}", iterator: row}}
    next: cells
  - step: cells
    type: python
    {CODE}
    loop: {{in: "{{{{ row }}}}", iterator: cell, mode: sequential}}
    with: {{n: "{{{{ cell }}}}"}}
    next: close
  - {{step: close, end_loop: rows, next: end}}
  - {{step: end, result: done}}
"""
AGAIN = f"""
workload: {{most: 3}}
workflow:
  - {{step: start, next: turn}}
  - step: turn
    type: python
    {CODE}
    with: {{n: "{{{{ turn.n + 1 if turn is defined else 1 }}}}"}}
    next:
      - {{when: "{{{{ turn.n < workload.most }}}}", then: turn}}
      - {{else: end}}
  - {{step: end, result: "{{{{ turn.n }}}}"}}
"""
UNDO = f"undo: {{type: python, {CODE}, with: {{n: '{{{{ NAME.n }}}}'}}}}"
LAST = f"  - {{step: last, type: python, {CODE}, with: {{n: 9}}}}\n"
UNDONE = f"""
finally: last
workflow:
  - {{step: start, next: first}}
  - {{step: first, type: python, {CODE}, with: {{n: 1}}, {UNDO.replace("NAME", "first")}, next: second}}
  - {{step: second, type: python, {CODE}, with: {{n: 2}}, {UNDO.replace("NAME", "second")}, next: third}}
  - {{step: third, type: python, {CODE}, with: {{fails: true}}, next: end}}
  - {{step: last, type: python, {CODE}, with: {{n: 9}}}}
  - {{step: end, result: done}}
"""
SAVED = f"""
workload: {{items: [1, 2, 3]}}
workflow:
  - {{step: start, next: one}}
  - step: one
    type: python
    {CODE}
    with: {{n: 5}}
    save: {{data: "{{{{ data.n }}}}"}}
    next: each
  - step: each
    type: python
    {CODE}
    loop: {{in: "{{{{ workload.items }}}}", iterator: item, save: {{data: "{{{{ item }}}}", chunk_size: 2}}}}
    with: {{n: "{{{{ item }}}}"}}
    next: end
  - {{step: end, result: "{{{{ one.n }}}}", save: {{data: {{got: "{{{{ data }}}}"}}}}}}
"""
LATE = f"""
notify: {{on: [late], late_after: 10m, to: "json://shop.example"}}
workflow:
  - {{step: start, type: python, {CODE}, next: end}}
  - {{step: end, result: over}}
"""
BOOKS = {
    "chain": CHAIN,
    "fan": FAN,
    "each": book(EACH),
    "nested": book(NESTED),
    "again": book(AGAIN),
    "undone": book(UNDONE),
    "saved": book(SAVED),
}


def answer(job: Any) -> Any:
    return job.action["inputs"] or {"n": 0}


def answer_one() -> bool:
    """Answer the next job, if there is any; inputs are given back, and `fails` makes it fail."""
    jobs = lease()
    for job in jobs:
        if "fails" in job.action["inputs"]:
            report_results(job.execution_id, [failure(job)])
        else:
            report(job, answer(job))
    return bool(jobs)


def open_jobs() -> list[dict[str, Any]]:
    """What is asked for, as workers see it."""
    names = ("node_id", "node_name", "kind", "action", "context", "uuid", "item_index", "timeout_seconds", "pool")
    rows = Job.objects.filter(status__in=["queued", "leased"]).order_by("node_id")
    return list(rows.values(*names, "priority", "limit_keys", "limit_maxs"))


def lose_jobs() -> None:
    Job.objects.filter(status__in=["queued", "leased"]).delete()


def sweep() -> None:
    """As a reconciler does after some quiet seconds."""
    Execution.objects.update(updated_at=F("updated_at") - timedelta(minutes=1))
    Reconciler().sweep()


def let_minutes_pass(minutes: int) -> None:
    """By the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('noetl.clock_offset', %s, false)", [f"{minutes} minutes"])


def repairs(execution_id: int) -> list[Any]:
    rows = EventLog.objects.filter(execution_id=execution_id, event_type="warning").order_by("seq")
    return [row.context for row in rows if (row.error or {})["code"] == "work_missing"]


def test_a_job_that_is_gone_is_enqueued_again_and_the_execution_completes() -> None:
    execution_id = start(CHAIN)
    [job] = lease("unlucky")
    lose_jobs()
    assert "live_execution_has_work" in {violation.invariant for violation in find_violations()}
    sweep()
    node = f"{execution_id}:one"
    counts = {"planned": 0, "jobs": 1, "children": 0, "timers": 0}
    assert repairs(execution_id) == [{"repaired": counts, "nodes": {"jobs": [node]}}]
    assert report(job, {"n": 666}) == "lease_lost"
    assert LeaseHistory.objects.get(job_id=job.id).ending == "lost"
    assert find_violations() == []
    work_off(lambda job: {"n": job.action["inputs"]["n"] + 1})
    assert ended(execution_id) == ("completed", {"n": 3})
    assert find_violations() == []


@pytest.mark.parametrize("name", list(BOOKS))
def test_jobs_that_are_gone_come_back_as_they_were_wherever_the_execution_stands(name: str) -> None:
    whole = start(BOOKS[name])
    while answer_one():
        pass
    execution_id = start(BOOKS[name])
    lost = 0
    while before := open_jobs():
        lose_jobs()
        sweep()
        assert open_jobs() == before
        assert find_violations() == []
        lost += 1
        answer_one()
    assert lost > 1 and len(repairs(execution_id)) == lost
    assert ended(execution_id) == ended(whole)
    assert [type_ for type_ in types(execution_id) if type_ != "warning"] == types(whole)


def test_a_timer_that_is_gone_is_set_for_the_time_that_it_had() -> None:
    execution_id = start(book(WAIT.replace("duration: 5m", "duration: 5m, timeout: 1h")))
    before = {timer.kind: timer.due_at for timer in Timer.objects.all()}
    Timer.objects.all().delete()
    let_minutes_pass(3)
    sweep()
    after = {timer.kind: timer.due_at for timer in Timer.objects.all()}
    assert after.keys() == before.keys() == {"wait", "timeout"}
    assert all(abs(after[kind] - before[kind]) < timedelta(seconds=1) for kind in before)
    assert repairs(execution_id)[0]["nodes"] == {"timers": [f"{execution_id}:pause"] * 2}
    assert find_violations() == []
    let_time_pass()
    fire()
    assert ended(execution_id) == ("completed", "done")
    assert find_violations() == []


def test_a_job_that_comes_back_hours_later_tells_the_time_that_it_was_asked_for_at() -> None:
    dated = CHAIN.replace('with: {n: "{{ n }}"}', 'with: {day: "{{ now()[:10] }}"}')
    start(dated)
    before = open_jobs()
    lose_jobs()
    let_minutes_pass(60 * 24 * 3)
    sweep()
    assert open_jobs() == before


def test_the_timer_of_lateness_is_set_again_unless_it_has_fired() -> None:
    execution_id = start(book(LATE))
    before = Timer.objects.get().due_at
    Timer.objects.all().delete()
    let_minutes_pass(3)
    lose_jobs()
    sweep()
    assert abs(Timer.objects.get().due_at - before) < timedelta(seconds=1)
    let_time_pass()
    assert fire() == 1
    lose_jobs()
    sweep()
    assert len(repairs(execution_id)) == 2 and not Timer.objects.exists()
    work_off(answer)
    assert ended(execution_id) == ("completed", "over")
    assert find_violations() == []


def test_the_time_of_an_execution_does_not_begin_anew_with_what_was_forgotten(settings: Any) -> None:
    execution_id = start(book(f"timeout: 1h\n{AGAIN}"))
    before = Timer.objects.get().due_at
    settings.NOETL_EVALUATE_INLINE = False
    answer_one()
    Execution.objects.update(needs_evaluation_since=None)
    Timer.objects.all().delete()
    let_minutes_pass(3)
    sweep()
    [repaired] = repairs(execution_id)
    assert repaired["repaired"]["planned"] > 0
    assert repaired["nodes"] == {"timers": [str(execution_id)]}
    assert abs(Timer.objects.get().due_at - before) < timedelta(seconds=1)
    settings.NOETL_EVALUATE_INLINE = True
    work_off(answer)
    assert ended(execution_id) == ("completed", 3)
    assert find_violations() == []


def test_the_time_of_an_execution_is_not_set_when_its_workflow_is_over() -> None:
    at_once = start(book("timeout: 1h\nworkflow: [{step: start, next: end}, {step: end, result: 1}]", "at_once"))
    assert ended(at_once) == ("completed", 1)
    assert not Timer.objects.exists()
    execution_id = start(book(f"timeout: 1h\n{UNDONE}"))
    while "undo_started" not in types(execution_id):
        assert answer_one()
    lost = 0
    while open_jobs():
        lose_jobs()
        sweep()
        assert not Timer.objects.exists()
        lost += 1
        answer_one()
    # Two undoings, and the step of `finally`.
    assert lost == 3
    assert get_execution(execution_id).status == "failed"


def test_a_child_that_is_gone_is_started_again() -> None:
    register_playbook(book(CHILD, "child"))
    execution_id = start(book(PARENT))
    Execution.objects.filter(parent_execution_id=execution_id).delete()
    sweep()
    assert repairs(execution_id)[0]["nodes"] == {"children": [f"{execution_id}:call"]}
    settle(answer)
    assert ended(execution_id) == ("completed", {"got": 4})


def test_a_mark_that_was_lost_is_no_end(settings: Any) -> None:
    settings.NOETL_EVALUATE_INLINE = False
    execution_id = start(CHAIN)
    Execution.objects.update(needs_evaluation_since=None)
    sweep()
    assert repairs(execution_id)[0]["repaired"]["planned"] > 0
    settings.NOETL_EVALUATE_INLINE = True
    work_off(lambda job: {"n": 7})
    assert ended(execution_id) == ("completed", {"n": 7})
    assert find_violations() == []


@pytest.mark.parametrize("phase", ["finally: last", "undone"])
def test_a_wait_that_was_called_off_is_no_work(phase: str) -> None:
    text = (
        UNDONE.replace("next: second}", "next: [second, ask]}") + "  - {step: ask, type: wait, signal: go, next: end}\n"
    )
    execution_id = start(book(text if phase != "undone" else text.replace("finally: last\n", "").replace(LAST, "")))
    while not {"finally_started", "undo_started"} & set(types(execution_id)):
        answer_one()
    before = open_jobs()
    lose_jobs()
    sweep()
    assert open_jobs() == before and before
    assert repairs(execution_id)
    work_off(answer)
    assert get_execution(execution_id).status == "failed"
    assert find_violations() == []


def test_the_time_limit_of_all_is_no_work() -> None:
    execution_id = start(CHAIN.replace("workload:", "timeout: 1h\nworkload:"))
    before = open_jobs()
    lose_jobs()
    sweep()
    assert open_jobs() == before
    assert [timer.node_id for timer in Timer.objects.all()] == [str(execution_id)]
    work_off(lambda job: {"n": 7})
    assert ended(execution_id) == ("completed", {"n": 7})
    assert find_violations() == []


def test_the_time_limit_of_all_alone_is_no_repair(caplog: pytest.LogCaptureFixture) -> None:
    execution_id = start(CHAIN.replace("workload:", "timeout: 1h\nworkload:"))
    Job.objects.update(status="cancelled")
    events = types(execution_id)
    for _ in range(2):
        sweep()
    assert types(execution_id) == events
    assert f"execution {execution_id}" in caplog.text and "nothing to ask for" in caplog.text


def test_what_moved_just_now_is_left_alone() -> None:
    execution_id = start(CHAIN)
    lose_jobs()
    Reconciler().sweep()
    assert repairs(execution_id) == [] and open_jobs() == []


@pytest.mark.parametrize("how", ["job", "timer", "signal", "paused", "ended"])
def test_what_owns_something_is_left_alone(how: str) -> None:
    waits = WAIT if how == "timer" else WAIT.replace("duration: 5m", "signal: go")
    execution_id = start(book(waits) if how in ("timer", "signal") else CHAIN)
    if how == "paused":
        pause_execution(execution_id)
        lose_jobs()
    elif how == "ended":
        cancel_execution(execution_id)
    events = types(execution_id)
    sweep()
    assert repair_execution(execution_id) is None
    assert types(execution_id) == events
    if how == "signal":
        send_signal(execution_id, "go")
        assert ended(execution_id) == ("completed", "done")


def test_what_cannot_be_repaired_is_told_and_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = start(CHAIN), start(CHAIN)
    Job.objects.filter(execution_id=bad).update(status="cancelled")
    Job.objects.filter(execution_id=good).delete()
    events = types(bad)
    sweep()
    assert types(bad) == events and repairs(good)
    assert f"execution {bad}" in caplog.text and "nothing to ask for" in caplog.text
    work_off(lambda job: {"n": 1})
    assert get_execution(good).status == "completed"
