"""What an operator mends by hand: taking a lease back, queueing a dead job again."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connection, transaction

from executions import store
from executions.api import (
    ExecutionEnded,
    ExecutionNotFound,
    OutcomeRecorded,
    cancel_execution,
    get_execution,
    pause_execution,
    release_lease,
    requeue_dead_job,
    resume_execution,
)
from executions.models import EventLog
from executors.selectors import find_violations
from queueing.api import JobNotFound, extend_leases, find_expired_leases
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, FAN, lease, report, start, work_off

pytestmark = pytest.mark.usefixtures("fresh_db")


def external_job(execution_id: int, **fields: Any) -> Job:
    values = {"status": "dead", "lost_leases": 5, "node_id": f"{execution_id}:aside", "node_name": "aside", **fields}
    return Job.objects.create(
        execution_id=execution_id, kind="python", action={}, uuid=uuid.uuid4(), origin="external", **values
    )


def count_events() -> int:
    return EventLog.objects.count()


def test_a_released_lease_is_not_counted_and_the_job_waits_for_another_worker() -> None:
    execution_id = start(CHAIN)
    [job] = lease("slow")
    assert release_lease(job.id, "ada") is True
    row = Job.objects.get(id=job.id)
    assert (row.status, row.lost_leases, row.worker_id, row.lease_token) == ("queued", 0, None, None)
    assert LeaseHistory.objects.get(job_id=job.id).ending == "released"
    told = EventLog.objects.filter(execution_id=execution_id).order_by("-seq")[0]
    assert (told.event_type, told.status, told.worker_id, told.node_name) == ("lease_lost", "queued", "slow", "one")
    assert told.meta == {"attempt": 1, "job_id": str(job.id), "reason": "released", "by": "ada"}
    assert find_violations() == []


def test_the_worker_that_lost_its_lease_to_an_operator_writes_nothing() -> None:
    execution_id = start(CHAIN)
    [job] = lease("slow")
    release_lease(job.id, "ada")
    events = count_events()
    assert extend_leases([job.fence], 60) == []
    assert report(job, {"n": 666}) == "lease_lost"
    [again] = lease("quick")
    assert (again.id, again.attempt) == (job.id, 2)
    assert report(job, {"n": 666}) == "lease_lost"
    assert count_events() == events
    assert report(again, {"n": 2}) == "accepted"
    work_off(lambda job: {"n": 20})
    assert get_execution(execution_id).result == {"n": 20}
    assert find_violations() == []


def test_only_a_held_lease_is_released() -> None:
    start(CHAIN)
    [waiting] = Job.objects.all()
    events = count_events()
    assert release_lease(waiting.id, "ada") is False
    [job] = lease()
    assert release_lease(job.id, "ada") is True
    assert release_lease(job.id, "ada") is False
    assert count_events() == events + 1
    assert not find_expired_leases(10)
    with pytest.raises(JobNotFound):
        release_lease(1, "ada")


def test_a_lease_that_an_ended_execution_left_behind_is_called_off() -> None:
    execution_id = start(FAN)
    [job] = lease()
    cancel_execution(execution_id, "enough", "ada")
    assert release_lease(job.id, "ada") is True
    assert Job.objects.get(id=job.id).status == "cancelled"
    assert report(job, 1) == "lease_lost"
    assert find_violations() == []


def test_a_release_waits_for_the_execution_before_it_touches_the_queue() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    done = threading.Event()

    def release() -> None:
        release_lease(job.id, "ada")
        connection.close()
        done.set()

    with transaction.atomic():
        store.lock_execution(execution_id)
        operator = threading.Thread(target=release)
        operator.start()
        assert not done.wait(0.3)
        # Whoever holds the execution may still take the job's row: the operator waits in front of it.
        assert Job.objects.select_for_update(nowait=True).get(id=job.id).status == "leased"
    operator.join()
    assert Job.objects.get(id=job.id).status == "queued"


def test_a_dead_external_job_is_queued_again_with_its_losses_forgotten() -> None:
    job = external_job(start(CHAIN))
    assert requeue_dead_job(job.id, "ada") is True
    job.refresh_from_db()
    assert (job.status, job.lost_leases, job.finished_at) == ("queued", 0, None)
    assert requeue_dead_job(job.id, "ada") is False
    assert job.id in {leased.id for leased in lease(count=5)}
    assert find_violations() == []


def test_a_dead_job_is_queued_as_its_execution_stands_now() -> None:
    execution_id = start(CHAIN)
    job = external_job(execution_id)
    pause_execution(execution_id)
    requeue_dead_job(job.id, "ada")
    assert lease(count=5) == []
    resume_execution(execution_id)
    assert job.id in {leased.id for leased in lease(count=5)}
    # One that died while its execution was paused, which it is no more.
    held = external_job(execution_id, held=True, node_id=f"{execution_id}:beside")
    requeue_dead_job(held.id, "ada")
    assert held.id in {leased.id for leased in lease(count=5)}
    assert find_violations() == []


def test_a_steps_dead_job_has_its_outcome_and_stays_dead() -> None:
    start(CHAIN)
    [job] = Job.objects.all()
    Job.objects.update(status="dead")
    with pytest.raises(OutcomeRecorded, match="start the playbook again"):
        requeue_dead_job(job.id, "ada")
    assert Job.objects.get(id=job.id).status == "dead"


def test_an_ended_execution_takes_no_job_back() -> None:
    execution_id = start(CHAIN)
    job = external_job(execution_id)
    cancel_execution(execution_id)
    with pytest.raises(ExecutionEnded, match="is cancelled"):
        requeue_dead_job(job.id, "ada")
    assert find_violations() == []


def test_a_job_without_its_execution_is_left_alone() -> None:
    job = external_job(1)
    with pytest.raises(ExecutionNotFound):
        requeue_dead_job(job.id, "ada")
    assert Job.objects.get(id=job.id).status == "dead"
