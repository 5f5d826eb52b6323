"""Reads of the queue."""

from __future__ import annotations

from queueing import store
from queueing.domain.leases import ExpiredLease


def find_expired_leases(count: int) -> list[ExpiredLease]:
    """Leases past their time, the oldest first; seen without a lock, so to be judged again."""
    return store.find_expired(count)


def count_waiting_by_pool(older_than_seconds: float) -> dict[str, int]:
    """How many jobs of each pool could have been leased for longer than this."""
    return store.waiting_pools(older_than_seconds)


def count_jobs(status: str = "queued", pool: str | None = None) -> int:
    """How many jobs have this status, in one pool or in all."""
    return store.size(status, pool)
