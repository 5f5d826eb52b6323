"""What operators mend by hand: leases that are held too long, dead jobs that were enqueued by hand."""

from __future__ import annotations

import logging

from django.db import transaction

from executions import store
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.outcomes import JobPlace
from executions.errors import ExecutionEnded, OutcomeRecorded
from queueing.api import find_job, take_back_lease
from queueing.api import requeue_dead_job as put_back_dead_job

logger = logging.getLogger(__name__)


def release_lease(job_id: int, released_by: str) -> bool:
    """Take a leased job back from its worker for an operator: not counted, the worker's late report is `lease_lost`.

    The job waits for another worker, or is called off when its execution has ended.
    Returns: False when nobody held it. Raises: `JobNotFound`, `ExecutionNotFound`.
    """
    found = find_job(job_id)
    with transaction.atomic():
        locked = store.lock_execution(found.execution_id)
        taken = take_back_lease(job_id)
        if taken is None:
            return False
        meta = {"attempt": taken.attempt, "job_id": str(job_id), "reason": "released", "by": released_by}
        place = JobPlace(taken.node_id, taken.node_name, taken.item_index, taken.worker_id)
        event = Event(locked.last_seq + 1, ev.LEASE_LOST, status=taken.status, meta=meta, **place.fields())
        store.append_events(locked.id, [event])
        store.set_last_seq(locked.id, event.seq)
    logger.info("the lease of job %s was released by %s", job_id, released_by)
    return True


def requeue_dead_job(job_id: int, requeued_by: str) -> bool:
    """Queue a dead external job again, its lost leases forgotten.

    Returns: False when it is not dead (any more). Raises: `OutcomeRecorded` for a step's job, `ExecutionEnded`,
    `JobNotFound`, `ExecutionNotFound`; nothing is changed then.
    """
    found = find_job(job_id)
    if not found.is_external:
        raise OutcomeRecorded(job_id)
    with transaction.atomic():
        locked = store.lock_execution(found.execution_id)
        if locked.is_terminal:
            raise ExecutionEnded(locked.id, locked.status)
        requeued = put_back_dead_job(job_id, held=locked.is_paused)
    if requeued:
        logger.info("dead job %s was queued again by %s", job_id, requeued_by)
    return requeued
