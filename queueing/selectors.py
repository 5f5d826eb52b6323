"""Reads of the queue."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import BigIntegerField, Count, Func, Q, QuerySet

from queueing import store
from queueing.domain.jobs import LEASED, QUEUED
from queueing.domain.leases import ExpiredLease
from queueing.models import CLOCK, Job, LeaseHistory


def find_expired_leases(count: int) -> list[ExpiredLease]:
    """Leases past their time, the oldest first; seen without a lock, so to be judged again."""
    return store.find_expired(count)


def count_waiting_by_pool(older_than_seconds: float) -> dict[str, int]:
    """How many jobs of each pool could have been leased for longer than this."""
    return store.waiting_pools(older_than_seconds)


def count_jobs(status: str = "queued", pool: str | None = None) -> int:
    """How many jobs have this status, in one pool or in all."""
    return store.size(status, pool)


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
