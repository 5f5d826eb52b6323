"""Priorities, pools, limits and back-pressure as a playbook's author and an operator see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from catalog.api import register_playbook
from executions.api import (
    TooBusy,
    evaluate_execution,
    explain_execution,
    find_executions_to_evaluate,
    get_execution,
    list_events,
    reap_expired_lease,
    report_results,
    rerun_execution,
)
from executions.services import busyness
from executors.selectors import find_violations
from executors.worker.presence import Component, announce, find_unserved_pools
from executors.worker.reconciler import Reconciler
from queueing.api import find_expired_leases, lease_jobs
from queueing.models import Job
from tests.support.api import api_as
from tests.support.books import failure, lease, report, start, work_off

pytestmark = pytest.mark.usefixtures("fresh_db")

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: limited\npath: tests/limited\n"
CODE = 'code: "def main(**given): return 1"'
ONE = f"workflow:\n  - {{step: start, type: python, {CODE}, next: end}}\n  - step: end\n"


@pytest.fixture(autouse=True)
def count_anew() -> Iterator[None]:
    """Nothing that another test has counted counts here."""
    busyness.forget_counts()
    yield
    busyness.forget_counts()


def book(steps: str, head: str = "") -> str:
    return f"{HEAD}{head}workflow:\n{steps}"


def fan(more: str, items: int = 6, head: str = "", name: str = "limited") -> str:
    text = book(
        "  - {step: start, next: each}\n"
        f"  - {{step: each, type: python, {CODE}, {more}, next: end,\n"
        f"     loop: {{in: {list(range(items))}, iterator: item}}}}\n"
        "  - step: end\n",
        head,
    )
    return text.replace("limited", name)


def queued(**given: Any) -> list[Any]:
    return list(Job.objects.filter(status="queued", **given).order_by("id").values("pool", "priority", "limit_keys"))


# -- priorities and pools ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("playbook", "given", "step", "expected"),
    [(None, None, None, 0), (5, None, None, 5), (5, -3, None, -3), (5, 0, None, 0), (5, -3, 9, 9), (5, None, 0, 0)],
)
def test_a_steps_priority_counts_before_the_starts_and_that_before_the_playbooks(
    playbook: int | None, given: int | None, step: int | None, expected: int
) -> None:
    text = book(
        f"  - {{step: start, type: python, priority: {'null' if step is None else step}, {CODE}, next: end}}\n"
        "  - step: end\n",
        "" if playbook is None else f"priority: {playbook}\n",
    )
    execution_id = start(text, priority=given)
    assert [job["priority"] for job in queued(execution_id=execution_id)] == [expected]
    [job] = lease()
    report(job)
    again = rerun_execution(execution_id)
    assert [job["priority"] for job in queued(execution_id=again)] == [expected]


def test_children_run_with_their_parents_priority_unless_they_have_their_own() -> None:
    register_playbook(HEAD.replace("limited", "heir") + ONE, "test")
    register_playbook(HEAD.replace("limited", "own") + "priority: -9\n" + ONE, "test")
    text = book(
        "  - {step: start, next: [heir, urgent, own]}\n"
        "  - {step: heir, type: playbook, path: tests/heir}\n"
        "  - {step: urgent, type: playbook, path: tests/heir, priority: 50}\n"
        "  - {step: own, type: playbook, path: tests/own, priority: 50}\n"
        "  - step: end\n"
    )
    start(text, priority=7)
    for execution_id in find_executions_to_evaluate(0, 10):
        evaluate_execution(execution_id)
    assert sorted(job["priority"] for job in queued()) == [-9, 7, 50]
    assert find_violations() == []


def test_a_pool_is_the_steps_then_the_playbooks_then_the_kinds(settings: Any) -> None:
    settings.NOETL_POOLS_BY_KIND = {"python": "snakes"}
    steps = f"  - {{step: start, next: [a, b]}}\n  - {{step: a, type: python, {CODE}}}\n"
    steps += f"  - {{step: b, type: python, pool: heavy, {CODE}}}\n  - step: end\n"
    start(book(steps))
    start(book(steps, "pool: all-of-it\n"))
    assert [job["pool"] for job in queued()] == ["snakes", "heavy", "all-of-it", "heavy"]
    assert lease(count=9) == []
    assert len(lease_jobs("w1", ["heavy", "snakes"], 9, 60)) == 3


def test_a_pool_that_nobody_serves_is_told() -> None:
    execution_id = start(book(f"  - {{step: start, type: python, pool: heavy, {CODE}, next: end}}\n  - step: end\n"))
    start(HEAD + ONE)
    announce(Component("w", "worker_pool", labels={"queues": ["noetl.default", "noetl.io"]}))
    assert find_unserved_pools(0) == {"heavy": 1}
    assert "waits for a worker of the pool `heavy`" in explain_execution(execution_id)[0].reasons
    announce(Component("v", "worker_pool", labels={"queues": ["heavy"]}))
    assert find_unserved_pools(0) == {}


# -- limits ------------------------------------------------------------------------------------------


def test_max_running_jobs_is_over_all_executions_of_a_playbook() -> None:
    first, second = (start(fan("priority: 0", head="max_running_jobs: 4\n")) for _ in range(2))
    other = start(fan("priority: 0", name="other"))
    jobs = lease(count=50)
    assert len([job for job in jobs if job.execution_id in (first, second)]) == 4
    assert len([job for job in jobs if job.execution_id == other]) == 6
    assert find_violations() == []
    for job in jobs:
        report(job)
    work_off(lambda job: 1, batch=3)
    assert {get_execution(id_).status for id_ in (first, second, other)} == {"completed"}
    assert find_violations() == []


def test_a_limits_key_is_rendered_per_item_and_shared_by_playbooks() -> None:
    limit = "limit: {key: 'account-{{ item % 2 }}', max: 1}"
    ids = [start(fan(limit, name=name)) for name in ("one", "two")]
    jobs = lease(count=50)
    assert sorted(Job.objects.get(id=job.id).limit_keys or [] for job in jobs) == [["key:account-0"], ["key:account-1"]]
    reasons = explain_execution(ids[1])[1].reasons
    assert any("waits for room at key:account-0" in reason for reason in reasons), reasons
    for job in jobs:
        report(job)
    assert work_off(lambda job: 1, batch=9) == 10
    assert {get_execution(id_).status for id_ in ids} == {"completed"}
    assert find_violations() == []


def test_a_number_is_a_key_and_nothing_is_none() -> None:
    start(fan("limit: {key: '{{ item }}', max: 1}", items=1))
    assert queued()[0]["limit_keys"] == ["key:0"]
    execution_id = start(fan("limit: {key: '{{ [] }}', max: 1}", items=1))
    assert get_execution(execution_id).status == "failed"
    codes = {event.error["code"] for event in list_events(execution_id) if event.error}
    assert "limit_key_invalid" in codes, codes


def test_two_limits_hold_under_workers_at_the_same_time() -> None:
    limit = "limit: {key: shared, max: 2}"
    ids = [start(fan(limit, items=15, head="max_running_jobs: 3\n", name=name)) for name in ("one", "two", "one")]
    ids.append(start(fan("priority: 0", items=15, name="free")))

    failed = Event()

    def work(name: str) -> int:
        done = 0
        try:
            while not failed.is_set() and Job.objects.filter(status__in=["queued", "leased"]).exists():
                for job in lease_jobs(name, ["default"], 3, 60):
                    live = [key for keys in live_keys() for key in keys or ()]
                    assert live.count("key:shared") <= 2
                    assert live.count("playbook:tests/one") <= 3
                    report(job)
                    done += 1
        except BaseException:
            # Else the others wait for ever for what this one holds.
            failed.set()
            raise
        finally:
            connection.close()
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, [f"w{number}" for number in range(4)])) == 60
    assert {get_execution(id_).status for id_ in ids} == {"completed"}
    assert find_violations() == []


def live_keys() -> list[list[str] | None]:
    return list(Job.objects.filter(status="leased").values_list("limit_keys", flat=True))


def test_a_holder_that_dies_gives_its_place_to_the_next_when_it_is_reaped() -> None:
    start(fan("limit: {key: k, max: 1}"))
    [job] = lease(count=9)
    assert lease(count=9) == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE queue SET lease_until = now() - interval '1 second' WHERE status = 'leased'")
    assert lease(count=9) == []
    [expired] = find_expired_leases(10)
    assert reap_expired_lease(expired) is not None
    assert len(lease(count=9)) == 1
    assert report(job) == "lease_lost"
    assert find_violations() == []


def test_a_try_that_waits_holds_no_place() -> None:
    start(fan("limit: {key: k, max: 1}, retry: {max_attempts: 3, initial_delay: 100}", items=2))
    [first] = lease(count=9)
    report_results(first.execution_id, [failure(first)])
    [second] = lease(count=9)
    assert second.node_id != first.node_id


def test_the_reconciler_admits_what_a_crash_has_left() -> None:
    start(fan("limit: {key: k, max: 2}"))
    Job.objects.update(parked_by="key:k")
    assert lease(count=9) == []
    Reconciler().admit()
    assert len(lease(count=9)) == 2


# -- back-pressure -----------------------------------------------------------------------------------


def test_a_start_over_the_bound_of_jobs_is_refused_and_nothing_else() -> None:
    first = start(fan("priority: 0", items=3, name="first"), idempotency_key="k")
    with override_settings(NOETL_MAX_QUEUED_JOBS=3):
        with pytest.raises(TooBusy):
            start(HEAD + ONE)
        assert start(fan("priority: 0", items=3, name="first"), idempotency_key="k") == first
        jobs = lease(count=3)
        busyness.forget_counts()
        for job in jobs:
            report(job)
        assert start(HEAD + ONE) > first


def test_a_start_over_the_bound_of_executions_is_refused_but_children_and_reruns_are_not() -> None:
    register_playbook(HEAD.replace("limited", "child") + ONE, "test")
    parent = book("  - {step: start, type: playbook, path: tests/child, next: end}\n  - step: end\n")
    with override_settings(NOETL_MAX_RUNNING_EXECUTIONS=1):
        first = start(parent)
        for execution_id in find_executions_to_evaluate(0, 10):
            evaluate_execution(execution_id)
        busyness.forget_counts()
        with pytest.raises(TooBusy):
            start(HEAD + ONE)
        assert rerun_execution(first) > first
        answer = api_as("operator").post("executions/run", {"path": "tests/limited"})
    assert answer.status_code == 429, answer.content
    assert answer.json()["code"] == "too_busy"
    assert int(answer["Retry-After"]) > 0


def test_what_is_counted_counts_for_a_while_that_the_counting_pays_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    counted: list[float] = []
    monkeypatch.setattr(busyness, "time", SimpleNamespace(monotonic=lambda: now))

    def count(waiting: int, seconds: float) -> Callable[[int], int]:
        def counting(bound: int) -> int:
            nonlocal now
            counted.append(now)
            now += seconds
            return waiting

        return counting

    busyness._check("jobs wait", 9, count(7, 0.01))
    busyness._check("jobs wait", 9, count(7, 0.01))
    with pytest.raises(TooBusy):
        busyness._check("jobs wait", 9, count(9, 1.0))
    assert counted == [0.0]
    now = 0.3
    with pytest.raises(TooBusy):
        busyness._check("jobs wait", 9, count(9, 1.0))
    assert counted == [0.0, 0.3]
    now = 21.2
    with pytest.raises(TooBusy):
        busyness._check("jobs wait", 9, count(0, 0.0))
    now = 21.4
    busyness._check("jobs wait", 9, count(0, 0.0))
    assert counted == [0.0, 0.3, 21.4]


# -- the api -----------------------------------------------------------------------------------------


def test_the_api_takes_and_shows_priorities_and_limits() -> None:
    api = api_as("operator", "author", name="author")
    registered = api.post("catalog/register", {"content": fan("limit: {key: k, max: 1}, pool: heavy")})
    assert registered.status_code in (200, 201), registered.content
    for wrong in (101, -101, "high"):
        assert api.post("executions/run", {"path": "tests/limited", "priority": wrong}).status_code == 400
    started = api.post("executions/run", {"path": "tests/limited", "priority": 12}).json()
    assert started["priority"] == 12
    jobs = api.get("queue", execution_id=started["id"]).json()["items"]
    assert {(job["pool"], job["priority"]) for job in jobs} == {("heavy", 12)}
    assert [job["parked_by"] for job in jobs].count(None) == 1
    assert jobs[0]["limit_keys"] == ["key:k"]
