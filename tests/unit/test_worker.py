"""What a worker does on its own: giving up in time, and not flooding the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from executors.worker import drain
from executors.worker.heartbeat import Held, LeaseKeeper
from executors.worker.reconciler import WakeUps
from queueing.api import HeldLease, LeasedJob

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = LeasedJob(1, 2, "2:a", "a", "python", {}, {}, "u", None, None, "default", 0, 1, "t", NOW, NOW)


class Heartbeats:
    """A gateway whose heartbeats do as told."""

    def __init__(self, answer: Callable[[], list[HeldLease]]) -> None:
        self.answer = answer

    def extend(self, fences: Any, lease_seconds: float) -> list[HeldLease]:
        return self.answer()


@pytest.fixture
def hung() -> Iterator[Callable[[], list[HeldLease]]]:
    """A heartbeat that hangs until the test is over."""
    over = threading.Event()

    def hang() -> list[HeldLease]:
        over.wait(60)
        return []

    yield hang
    over.set()


def hold(answer: Callable[[], list[HeldLease]], lease_seconds: float = 0.3) -> Held:
    import time

    return LeaseKeeper(Heartbeats(answer), lease_seconds).hold(JOB, time.monotonic())  # type: ignore[arg-type]  # heartbeats only


def test_a_hung_heartbeat_does_not_keep_a_worker_from_giving_up(hung: Callable[[], list[HeldLease]]) -> None:
    held = hold(hung)
    assert held.lost.wait(10)
    assert held.stop.is_set()


def test_whatever_a_heartbeat_raises_the_worker_gives_up_in_time() -> None:
    over = threading.Event()

    def fail_until_the_test_is_over() -> list[HeldLease]:
        if not over.is_set():
            raise RuntimeError("read-only transaction")
        return []

    lost = hold(fail_until_the_test_is_over).lost.wait(10)
    over.set()
    assert lost


def test_a_lease_that_the_database_no_longer_knows_is_lost() -> None:
    assert hold(list).lost.wait(10)


def test_a_lease_taken_anew_is_kept_when_the_one_before_it_is_dropped() -> None:
    import time

    keeper = LeaseKeeper(Heartbeats(list), 0.6)  # type: ignore[arg-type]  # heartbeats only
    before = keeper.hold(JOB, time.monotonic())
    anew = keeper.hold(replace(JOB, attempt=2), time.monotonic())
    keeper.drop(before)
    # It was asked for: its loss is heard of.
    assert anew.lost.wait(10)


def test_a_cancelled_job_is_stopped_and_its_lease_is_not_lost() -> None:
    held = hold(lambda: [HeldLease(1, NOW, cancel_requested=True)], lease_seconds=1.0)
    assert held.stop.wait(10)
    assert not held.lost.is_set()


def test_a_worker_that_is_to_stop_ends_its_action_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(drain, "has_begun", lambda: True)
    held = hold(lambda: [HeldLease(1, NOW, cancel_requested=False)], lease_seconds=60)
    assert held.stop.wait(10)
    assert not held.lost.is_set()


def test_wake_ups_become_rare_while_nothing_moves_and_quick_when_it_does() -> None:
    wake_ups = WakeUps()
    sent = [tick for tick in range(240) if wake_ups.due({"default": 100}, tick / 2)]
    assert len(sent) < 12
    assert wake_ups.due({"default": 99}, 1000.0) == ["default"]
    assert wake_ups.due({"default": 98}, 1000.6) == ["default"]
    assert wake_ups.due({}, 1001.0) == []
    assert wake_ups.due({"default": 1}, 1001.1) == ["default"]


def test_wake_ups_begin_anew_when_those_before_went_astray() -> None:
    wake_ups = WakeUps()
    for tick in range(100):
        wake_ups.due({"default": 100}, tick / 2)
    assert wake_ups.due({"default": 101}, 50.0) == []
    wake_ups.begin_anew()
    assert wake_ups.due({"default": 101}, 50.0) == ["default"]
