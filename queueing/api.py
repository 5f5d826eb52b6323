"""The queue's door: what other apps may call.

`enqueue_jobs`, `enqueue_leased_jobs`, `finish_jobs`, `retry_job`, `reap_lease`, `take_back_lease`, `requeue_dead_job`,
`hold_open_jobs`, `end_leases_without_jobs`, `close_jobs_at` and `close_open_jobs` run inside the caller's transaction,
which holds the lock of the execution (lock order: execution, then queue).
"""

from __future__ import annotations

from queueing.domain.jobs import DEAD, DEFAULT_POOL, DONE, EXTERNAL, FAILED, Fence, FoundJob, HeldJob, LeasedJob, NewJob
from queueing.domain.jobs import STATUSES as JOB_STATUSES
from queueing.domain.leases import Claim, ExpiredLease, FinishedJob, HeldLease, Judgement, ReapedLease, Take
from queueing.domain.limits import Limit
from queueing.errors import JobNotFound, LeaseLost, QueueError
from queueing.selectors import (
    count_jobs,
    count_jobs_of_execution,
    count_recent_jobs,
    count_waiting_by_pool,
    find_done_actions,
    find_expired_leases,
    find_fence,
    find_job_of_node,
    get_held_job,
    get_live_action,
    is_held_by,
    list_held_jobs,
    list_jobs,
    list_leases,
    query_jobs,
)
from queueing.services import (
    admit_jobs,
    close_jobs_at,
    close_open_jobs,
    extend_leases,
    finish_jobs,
    hold_open_jobs,
    lease_jobs,
    reap_lease,
    release_jobs,
    retry_external_job,
    take_back_lease,
    tell_of_admitted,
)
from queueing.store import end_leases_without_jobs
from queueing.store import enqueue as enqueue_jobs
from queueing.store import enqueue_leased as enqueue_leased_jobs
from queueing.store import find as find_job
from queueing.store import parking_keys as find_parking_keys
from queueing.store import requeue_dead as requeue_dead_job
from queueing.store import retry as retry_job
from queueing.store import waiting_up_to as count_waiting_up_to

__all__ = [
    "DEAD",
    "DEFAULT_POOL",
    "DONE",
    "EXTERNAL",
    "FAILED",
    "JOB_STATUSES",
    "Claim",
    "ExpiredLease",
    "Fence",
    "FinishedJob",
    "FoundJob",
    "HeldJob",
    "HeldLease",
    "JobNotFound",
    "Judgement",
    "LeaseLost",
    "LeasedJob",
    "Limit",
    "NewJob",
    "QueueError",
    "ReapedLease",
    "Take",
    "admit_jobs",
    "close_jobs_at",
    "close_open_jobs",
    "count_jobs",
    "count_jobs_of_execution",
    "count_recent_jobs",
    "count_waiting_by_pool",
    "count_waiting_up_to",
    "end_leases_without_jobs",
    "enqueue_jobs",
    "enqueue_leased_jobs",
    "extend_leases",
    "find_done_actions",
    "find_expired_leases",
    "find_fence",
    "find_job",
    "find_job_of_node",
    "find_parking_keys",
    "finish_jobs",
    "get_held_job",
    "get_live_action",
    "hold_open_jobs",
    "is_held_by",
    "lease_jobs",
    "list_held_jobs",
    "list_jobs",
    "list_leases",
    "query_jobs",
    "reap_lease",
    "release_jobs",
    "requeue_dead_job",
    "retry_external_job",
    "retry_job",
    "take_back_lease",
    "tell_of_admitted",
]
