"""The queue's door: what other apps may call.

`enqueue_jobs`, `finish_jobs`, `reap_lease`, `take_back_lease`, `requeue_dead_job` and `close_open_jobs` run inside the
caller's transaction, which holds the lock of the execution (lock order: execution, then queue).
"""

from __future__ import annotations

from queueing.domain.jobs import DEAD, DEFAULT_POOL, DONE, FAILED, Fence, FoundJob, LeasedJob, NewJob
from queueing.domain.leases import ExpiredLease, FinishedJob, HeldLease, Judgement, ReapedLease
from queueing.errors import JobNotFound, QueueError
from queueing.selectors import (
    count_jobs,
    count_jobs_of_execution,
    count_recent_jobs,
    count_waiting_by_pool,
    find_expired_leases,
    list_jobs,
    list_leases,
)
from queueing.services import extend_leases, lease_jobs, release_jobs
from queueing.store import close_open as close_open_jobs
from queueing.store import enqueue as enqueue_jobs
from queueing.store import find as find_job
from queueing.store import finish as finish_jobs
from queueing.store import reap as reap_lease
from queueing.store import requeue_dead as requeue_dead_job
from queueing.store import take_back as take_back_lease

__all__ = [
    "DEAD",
    "DEFAULT_POOL",
    "DONE",
    "FAILED",
    "ExpiredLease",
    "Fence",
    "FinishedJob",
    "FoundJob",
    "HeldLease",
    "JobNotFound",
    "Judgement",
    "LeasedJob",
    "NewJob",
    "QueueError",
    "ReapedLease",
    "close_open_jobs",
    "count_jobs",
    "count_jobs_of_execution",
    "count_recent_jobs",
    "count_waiting_by_pool",
    "enqueue_jobs",
    "extend_leases",
    "find_expired_leases",
    "find_job",
    "finish_jobs",
    "lease_jobs",
    "list_jobs",
    "list_leases",
    "reap_lease",
    "release_jobs",
    "requeue_dead_job",
    "take_back_lease",
]
