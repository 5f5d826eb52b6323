"""Transactions on the queue alone: leasing, heartbeats, giving back. Finishing a job belongs to its execution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import transaction

from queueing import store
from queueing.domain.jobs import Fence, LeasedJob
from queueing.domain.leases import HeldLease


def lease_jobs(
    worker_id: str,
    pools: Sequence[str],
    count: int,
    lease_seconds: float,
    principal: str = "",
    *,
    execution_id: int | None = None,
) -> list[LeasedJob]:
    """Lease up to `count` jobs of these pools to a worker, touching only the queue.

    `principal` is who asks over the API: nobody else may speak of the lease then. `execution_id`: only jobs of this
    execution; the caller may hold its lock, and be in the transaction that has enqueued them.
    """
    with transaction.atomic(savepoint=False):
        return store.lease(worker_id, pools, count, lease_seconds, principal, execution_id)


def extend_leases(fences: Iterable[Fence], lease_seconds: float) -> list[HeldLease]:
    """Extend leases from now; those that are lost are missing from the answer."""
    with transaction.atomic():
        return store.heartbeat(fences, lease_seconds)


def release_jobs(fences: Iterable[Fence]) -> list[int]:
    """Give jobs back when a worker stops in good order: counted neither as a lost lease nor as a try."""
    with transaction.atomic():
        return store.release(fences)


def retry_external_job(fence: Fence, delay_seconds: float) -> bool:
    """Give a failed job that was enqueued by hand back for another try, after a delay.

    Returns: False when it has none left, is the planner's, or is in other hands; nothing has changed then.
    """
    with transaction.atomic():
        return store.retry_later(fence, delay_seconds)
