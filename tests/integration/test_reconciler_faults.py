"""What the reconciler does when something around it fails: the broker, a lease, one execution of many."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from executions.api import fire_timers, get_execution
from executions.models import Execution
from executors import broker
from executors.worker import reconciler as reconciling
from executors.worker.reconciler import Reconciler
from queueing.models import Job
from tests.support.api import admin_api
from tests.support.books import CHAIN, FAN, lease, start
from tests.support.language import WAIT, book, let_time_pass
from tests.support.schedules import in_thread

pytestmark = pytest.mark.usefixtures("fresh_db")


def expire_leases() -> None:
    Job.objects.filter(status="leased").update(lease_until=F("lease_until") - timedelta(hours=1))


@pytest.fixture
def broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise ConnectionRefusedError("no broker here")

    monkeypatch.setattr(broker, "_push", refuse)
    forget_the_last_try(monkeypatch)


def forget_the_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the time had passed in which the broker is not tried again."""
    monkeypatch.setattr(broker.breaker, "_closed_until", 0.0)


@pytest.mark.usefixtures("broker_is_away")
def test_while_the_broker_is_away_jobs_are_run_here_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    start(CHAIN)
    let_time_pass()
    worked: list[Sequence[str]] = []
    monkeypatch.setattr(reconciling, "_work_alone", worked.append)
    one = Reconciler()
    for _ in range(3):
        one.wake()
        assert one._alone is not None
        one._alone.join()
        forget_the_last_try(monkeypatch)
    assert worked == [["default"]] * 3


def test_a_lease_taken_back_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start(FAN)
    let_time_pass()
    lease("killed")
    told: list[str] = []
    monkeypatch.setattr(reconciling, "carry", lambda nudge: told.extend(nudge.new_jobs))
    # So that no pause ends while the test runs.
    monkeypatch.setattr(reconciling, "TICK_SECONDS", 3600.0)
    one = Reconciler()
    one.wake()
    one.wake()
    assert told == ["default"]
    expire_leases()
    assert one.reap() == 1
    one.wake()
    assert told == ["default"] * 2


@pytest.mark.usefixtures("broker_is_away")
def test_a_reconciler_that_is_stopped_waits_for_its_own_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    start(CHAIN)
    let_time_pass()
    may_end = threading.Event()
    ended: list[Sequence[str]] = []

    def work(pools: Sequence[str]) -> None:
        assert may_end.wait(30)
        ended.append(pools)

    monkeypatch.setattr(reconciling, "_work_alone", work)
    one = Reconciler()
    one.wake()
    stop = threading.Event()
    stop.set()
    run = in_thread(lambda: one.run(stop))
    with pytest.raises(TimeoutError):
        run.result(0.3)
    may_end.set()
    run.result(30)
    assert ended == [["default"]]


def test_whatever_one_execution_fails_with_the_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = start(book(WAIT)), start(book(WAIT))
    let_time_pass()

    def fail_once(execution_id: int) -> int:
        if execution_id == bad:
            raise KeyError("gone")
        return fire_timers(execution_id)

    monkeypatch.setattr(reconciling, "fire_timers", fail_once)
    Reconciler().tick()
    assert (get_execution(bad).status, get_execution(good).status) == ("running", "completed")


def test_an_operator_takes_back_what_can_be_taken_back() -> None:
    bad, good = start(CHAIN), start(CHAIN)
    lease(count=2)
    expire_leases()
    Execution.objects.filter(id=bad).update(last_seq=1)
    answer = admin_api().post("queue/reap-expired")
    assert (answer.status_code, answer.json()) == (200, {"reclaimed": 1})
    assert Job.objects.get(execution_id=good).status == "queued"
