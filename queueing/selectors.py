"""Reads of the queue."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db.models import BigIntegerField, Count, Func, Q, QuerySet

from queueing import store
from queueing.domain.jobs import DONE, LEASED, QUEUED, Fence, HeldJob, LeasedJob
from queueing.domain.leases import Claim, ExpiredLease, find_claimed
from queueing.errors import JobNotFound, LeaseLost
from queueing.models import CLOCK, Job, LeaseHistory

MAX_HELD = 1000


def find_expired_leases(count: int) -> list[ExpiredLease]:
    """Leases past their time, the oldest first; seen without a lock, so to be judged again."""
    return store.find_expired(count)


def count_waiting_by_pool(older_than_seconds: float) -> dict[str, int]:
    """How many jobs of each pool could have been leased for longer than this."""
    return store.waiting_pools(older_than_seconds)


def count_jobs(status: str = "queued", pool: str | None = None) -> int:
    """How many jobs have this status, in one pool or in all."""
    return store.size(status, pool)


def query_jobs(**filters: Any) -> QuerySet[Job]:
    """Jobs as rows, in the order in which they are leased; of one status, execution or worker when asked."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    return Job.objects.filter(**wanted).order_by("-priority", "round", "id")


def find_fence(job_id: int, claim: Claim) -> Fence:
    """The fence that a claim speaks for; whether it still holds is judged by the statement that uses it.

    Raises: `JobNotFound`; `LeaseLost` when the claim fits no lease of the job, or fits several.
    """
    record = find_claimed(store.leases_of(job_id, claim.principal), claim)
    if record is None:
        raise LeaseLost(job_id) if Job.objects.filter(id=job_id).exists() else JobNotFound(job_id)
    return Fence(job_id, record.attempt, record.lease_token)


def find_job_of_node(execution_id: int, node_id: str) -> int:
    """The id of the job at a node. Raises: `JobNotFound`."""
    found = Job.objects.filter(execution_id=execution_id, node_id=node_id).values_list("id", flat=True).first()
    if found is None:
        raise JobNotFound(f"at {node_id}")
    return found


def find_done_actions(execution_id: int, node_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rendered actions of the jobs at these nodes that have done well."""
    rows = Job.objects.filter(execution_id=execution_id, node_id__in=list(node_ids), status=DONE)
    return dict(rows.values_list("node_id", "action"))


def list_held_jobs(execution_id: int, principal: str) -> list[LeasedJob]:
    """The leased jobs of an execution that a principal of the API holds, at most 1,000."""
    return store.held_by(execution_id, principal, MAX_HELD)


def is_held_by(execution_id: int, node_id: str, principal: str) -> bool:
    """Whether a principal of the API holds the lease of the job at this node."""
    held = LeaseHistory.objects.filter(execution_id=execution_id, node_id=node_id, principal=principal)
    return held.filter(ending__isnull=True).exists()


def get_held_job(fence: Fence) -> HeldJob:
    """Where a job stands whose lease is held. Raises: `LeaseLost`."""
    held = store.held_job(fence)
    if held is None:
        raise LeaseLost(fence.job_id)
    return held


def get_live_action(fence: Fence) -> dict[str, Any]:
    """The action of a job under a lease that is held now. Raises: `LeaseLost`."""
    action = store.live_action(fence)
    if action is None:
        raise LeaseLost(fence.job_id)
    return action


def list_jobs(execution_id: int, limit: int) -> list[Job]:
    """The newest jobs of an execution, the newest first, without what they carry."""
    return list(Job.objects.filter(execution_id=execution_id).order_by("-id").defer("action", "context")[:limit])


def count_jobs_of_execution(execution_id: int) -> dict[str, int]:
    """How many jobs of an execution have each status."""
    return _count_by_status(Job.objects.filter(execution_id=execution_id))


def count_recent_jobs(since_seconds: float) -> dict[str, int]:
    """How many jobs have each status: of the last so many seconds, and whatever waits or runs."""
    first = Func(CLOCK - timedelta(seconds=since_seconds), function="id_at", output_field=BigIntegerField())
    return _count_by_status(Job.objects.filter(Q(id__gte=first) | Q(status=QUEUED) | Q(status=LEASED)))


def _count_by_status(rows: QuerySet[Job]) -> dict[str, int]:
    return dict(rows.order_by().values_list("status").annotate(count=Count("id")))


def list_leases(job_id: int, limit: int) -> list[LeaseHistory]:
    """The newest leases of a job, the newest first."""
    return list(LeaseHistory.objects.filter(job_id=job_id).order_by("-attempt").defer("lease_token")[:limit])
