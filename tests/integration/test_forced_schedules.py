"""Schedules that chance rarely makes, forced: who waits for whom, and what the second one finds.

Each is the named test of a mutant in `tests/faults/mutants.py`: it fails every time when its lock or check is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from executions import failpoints, nudges, store
from executions.api import (
    Nudge,
    cancel_execution,
    carry_with,
    evaluate_execution,
    list_events,
    reap_expired_lease,
    report_results,
)
from executors.selectors import find_violations
from queueing.api import Fence, LeasedJob, extend_leases, find_expired_leases, release_jobs
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, FAN, lease, report, start, success
from tests.support.schedules import Failpoints, in_thread, wait_until_waiting

pytestmark = pytest.mark.usefixtures("fresh_db")


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failpoints]:
    """Failpoints of this process; whoever is paused at the end is let go."""
    monkeypatch.setattr(failpoints, "folder", tmp_path)
    armed = Failpoints(tmp_path)
    yield armed
    armed.release_all()


def shift_leases(seconds: float) -> None:
    """Let every lease that is held end so many seconds from now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE queue SET lease_until = clock_now() + make_interval(secs => %s) WHERE status = 'leased'", [seconds]
        )


def endings_of(job: LeasedJob) -> list[str | None]:
    return list(LeaseHistory.objects.filter(job_id=job.id).order_by("attempt").values_list("ending", flat=True))


def types_of(execution_id: int) -> list[str]:
    return [event.event_type for event in list_events(execution_id)]


def test_a_report_waits_for_the_report_of_another_job(points: Failpoints) -> None:
    execution_id = start(FAN)
    first, second, *_ = lease(count=5)
    points.arm("report.inside", "pause")
    one = in_thread(lambda: report(first, 1))
    points.wait_until_reached("report.inside")
    other = in_thread(lambda: report(second, 2))
    wait_until_waiting(other)
    assert not other.done()
    points.release("report.inside")
    assert (one.result(30), other.result(30)) == ("accepted", "accepted")
    assert types_of(execution_id).count("action_completed") == 2
    assert find_violations() == []


def test_a_second_evaluator_leaves_the_execution_to_the_first(points: Failpoints, settings: Any) -> None:
    settings.NOETL_EVALUATE_INLINE = False
    execution_id = start(CHAIN)
    points.arm("evaluate.inside", "pause")
    first = in_thread(lambda: evaluate_execution(execution_id))
    points.wait_until_reached("evaluate.inside")
    second = in_thread(lambda: evaluate_execution(execution_id))
    wait_until_waiting(second)
    assert second.result(1) is False
    points.release("evaluate.inside")
    assert first.result(30) is True
    assert Job.objects.count() == 1
    assert find_violations() == []


def test_a_result_that_was_there_first_is_kept_when_its_execution_is_cancelled(points: Failpoints) -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    points.arm("report.inside", "pause")
    reported = in_thread(lambda: report(job, {"n": 2}))
    points.wait_until_reached("report.inside")
    cancelled = in_thread(lambda: cancel_execution(execution_id))
    wait_until_waiting(cancelled)
    points.release("report.inside")
    assert (reported.result(30), cancelled.result(30)) == ("accepted", True)
    types = types_of(execution_id)
    assert (types.count("action_completed"), types[-1]) == (1, "execution_cancelled")
    assert lease() == []
    assert find_violations() == []


def test_a_result_that_waited_for_the_cancelling_is_late(points: Failpoints) -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    points.arm("cancel.inside", "pause")
    cancelled = in_thread(lambda: cancel_execution(execution_id))
    points.wait_until_reached("cancel.inside")
    reported = in_thread(lambda: report(job, {"n": 2}))
    wait_until_waiting(reported)
    points.release("cancel.inside")
    assert (cancelled.result(30), reported.result(30)) == (True, "accepted")
    assert types_of(execution_id)[-2:] == ["execution_cancelled", "late_result"]
    assert find_violations() == []


def test_the_reaper_leaves_a_job_that_was_reported_meanwhile(points: Failpoints) -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    shift_leases(-1)
    [expired] = find_expired_leases(10)
    points.arm("reap.between", "pause")
    reaped = in_thread(lambda: reap_expired_lease(expired))
    points.wait_until_reached("reap.between")
    assert report(job, {"n": 2}) == "accepted"
    points.release("reap.between")
    assert reaped.result(30) is None
    assert endings_of(job) == ["done"]
    assert "lease_lost" not in types_of(execution_id)
    assert find_violations() == []


def test_the_reaper_leaves_a_lease_that_runs_again(points: Failpoints) -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    shift_leases(-1)
    [expired] = find_expired_leases(10)
    points.arm("reap.between", "pause")
    reaped = in_thread(lambda: reap_expired_lease(expired))
    points.wait_until_reached("reap.between")
    # No heartbeat does this: the database's clock was set back.
    shift_leases(60)
    points.release("reap.between")
    assert reaped.result(30) is None
    assert report(job, {"n": 2}) == "accepted"
    assert "lease_lost" not in types_of(execution_id)
    assert find_violations() == []


def test_the_reaper_leaves_the_lease_of_the_next_holder(points: Failpoints) -> None:
    start(CHAIN)
    [job] = lease()
    shift_leases(-1)
    [expired] = find_expired_leases(10)
    points.arm("reap.between", "pause")
    reaped = in_thread(lambda: reap_expired_lease(expired))
    points.wait_until_reached("reap.between")
    assert reap_expired_lease(expired) is not None
    [again] = lease("healthy")
    # Its lease has run out as well, and is another's finding.
    shift_leases(-1)
    points.release("reap.between")
    assert reaped.result(30) is None
    assert endings_of(job) == ["lost", None]
    assert report(again, {"n": 2}) == "accepted"
    assert find_violations() == []


def check_untouched(job: LeasedJob) -> None:
    """Whoever waits for the execution, which this session holds, has not locked or changed the job's row."""
    row = Job.objects.select_for_update(nowait=True).get(id=job.id)
    assert (row.status, row.attempts, row.lost_leases) == ("leased", job.attempt, 0)
    assert endings_of(job) == [None]


def test_a_report_waits_for_the_execution_before_it_touches_the_queue() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    with transaction.atomic():
        store.lock_execution(execution_id)
        reported = in_thread(lambda: report(job, {"n": 2}))
        wait_until_waiting(reported)
        assert not reported.done()
        check_untouched(job)
    assert reported.result(30) == "accepted"
    assert endings_of(job) == ["done"]
    assert find_violations() == []


def test_the_reaper_touches_no_job_of_an_execution_that_somebody_holds() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    shift_leases(-1)
    [expired] = find_expired_leases(10)
    with transaction.atomic():
        store.lock_execution(execution_id)
        reaped = in_thread(lambda: reap_expired_lease(expired))
        wait_until_waiting(reaped)
        check_untouched(job)
    assert reaped.result(30) is None
    # The reconciler looks again.
    assert reap_expired_lease(expired) is not None
    assert endings_of(job) == ["lost"]
    assert find_violations() == []


def test_a_job_that_is_being_leased_is_leased_to_nobody_else() -> None:
    start(CHAIN)
    with transaction.atomic():
        [job] = lease("quick")
        slow = in_thread(lambda: lease("slow"))
        wait_until_waiting(slow)
    assert slow.result(30) == []
    assert endings_of(job) == [None]
    assert find_violations() == []


def test_a_lease_is_told_by_its_attempt_and_by_its_token() -> None:
    start(CHAIN)
    [job] = lease()
    other_attempt = Fence(job.id, job.attempt + 1, job.lease_token)
    other_token = Fence(job.id, job.attempt, job.uuid)
    for fence in (other_attempt, other_token):
        assert extend_leases([fence], 60) == []
        assert release_jobs([fence]) == []
        assert report_results(job.execution_id, [success(job).__class__(fence=fence, status="success")]) == [
            "lease_lost"
        ]
    assert report(job, {"n": 2}) == "accepted"
    assert find_violations() == []


def test_nothing_is_told_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Nudge] = []
    monkeypatch.setattr(nudges._Carriers, "current", nudges._Carriers.current)
    carry_with(told.append)
    with transaction.atomic():
        start(CHAIN)
        assert told == []
    assert told == [Nudge(new_jobs={"default": 1})]


BATCHES = {
    "heartbeats": lambda jobs: len(extend_leases([job.fence for job in jobs], 60)),
    "releases": lambda jobs: len(release_jobs([job.fence for job in jobs])),
    # Of reports the last come first, as a lease that is told of twice has the first word.
    "reports": lambda jobs: report_results(jobs[0].execution_id, [success(job, 1) for job in jobs[::-1]]).count(
        "accepted"
    ),
    "cancelling": lambda jobs: int(cancel_execution(jobs[0].execution_id)),
}


@pytest.mark.parametrize("batch", list(BATCHES))
def test_two_batches_over_the_same_jobs_never_wait_for_each_other(batch: str) -> None:
    """A third session holds the middle one; both come to it, each from its end of the batch, and are let go.

    One is given the jobs the other way round; its plan follows the table, in which they lie the wrong way round, and
    the other an index. Without an order of their own each would hold what the other still needs, and one be killed as
    the victim of a deadlock.
    """
    start(FAN)
    jobs = sorted(lease(count=5), key=lambda job: job.id)
    for nth, job in enumerate(reversed(jobs)):
        Job.objects.filter(id=job.id).update(lease_until=job.lease_until - timedelta(seconds=nth))

    def run(name: str, given: list[LeasedJob], *off: str) -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            for plan in ("hashjoin", "mergejoin", *off):
                cursor.execute(f"SET LOCAL enable_{plan} = off")
            return BATCHES[name](given)

    with transaction.atomic():
        Job.objects.select_for_update(no_key=True).get(id=jobs[2].id)
        one = in_thread(lambda: run(batch, jobs[::-1], "indexscan", "bitmapscan"))
        wait_until_waiting(one, sessions=1)
        other = in_thread(lambda: run("heartbeats", jobs, "seqscan"))
        wait_until_waiting(one, other, sessions=2)
    assert one.result(30) == (1 if batch == "cancelling" else 5)
    assert other.result(30) in (0, 5)
    assert find_violations() == []
