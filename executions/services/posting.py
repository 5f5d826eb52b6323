"""What others may add to an execution from outside: annotations in its log, and jobs enqueued by hand.

Neither is anything to plan with.
"""

from __future__ import annotations

from dataclasses import replace

from django.db import transaction

from executions import store
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.sight import job_uuid
from executions.errors import EventIdTaken, ExecutionEnded, NodeReserved
from executions.nudges import Nudge, send_after_commit
from queueing.api import NewJob, enqueue_jobs


def post_annotation(execution_id: int, posted: Event) -> tuple[int, bool]:
    """Append an event that somebody posts, as an annotation that keeps the type it was posted with.

    `posted.seq` does not count. An id that the node has an annotation for gives that one, and nothing is written.
    Returns: the event's `seq`, and whether it is new. Raises: `ExecutionNotFound`; `EventIdTaken` when another event
    of the execution has the id.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if posted.posted_id is not None and (found := store.find_posted(execution_id, posted.posted_id)) is not None:
            if (found.node_id, found.type) != (posted.node_id, ev.ANNOTATION):
                raise EventIdTaken(posted.posted_id)
            return found.seq, False
        meta = {**(posted.meta or {}), "posted_type": posted.type}
        annotation = replace(posted, seq=locked.last_seq + 1, type=ev.ANNOTATION, meta=meta)
        store.append_events(execution_id, [annotation])
        store.set_last_seq(execution_id, annotation.seq)
    return annotation.seq, True


def enqueue_external_job(job: NewJob) -> int | None:
    """Enqueue a job by hand; its `uuid` is made here. Returns: its id; None when the node has one already.

    Raises: `ExecutionNotFound`, `ExecutionEnded`, `NodeReserved`.
    """
    if job.node_id.startswith(f"{job.execution_id}:"):
        raise NodeReserved(job.node_id)
    with transaction.atomic():
        locked = store.lock_execution(job.execution_id)
        if locked.is_terminal:
            raise ExecutionEnded(job.execution_id, locked.status)
        uuid = job_uuid(f"{job.execution_id}/{job.node_id}")
        added = enqueue_jobs([replace(job, uuid=uuid, held=locked.is_paused)])
        for _, pool in added if not locked.is_paused else []:
            send_after_commit(Nudge(new_jobs={pool: 1}))
    return added[0][0] if added else None
