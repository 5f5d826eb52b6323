"""Transactions on the queue alone, and what is done to it within those of executions.

Leasing, heartbeats, giving back are whole transactions; finishing a job belongs to its execution.
Whatever ends a lease, or takes a job away that could have been leased, may make room at the job's keys. Those that wait
for it are admitted after the commit, in a transaction of its own that holds the keys' locks and nothing else: so no
lock of a key is held while an execution is evaluated, and none is waited for by whoever holds an execution
(docs/decisions/0017). Whoever dies between the two leaves it to the reconciler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from django.db import connection, transaction

from queueing import store
from queueing.domain.jobs import Fence, LeasedJob
from queueing.domain.leases import FinishedJob, HeldLease, ReapedLease
from queueing.domain.limits import LimitedJob, judge_places, keys_of

MAX_LOOKS: Final = 50
"""How often one lease looks for other jobs in the place of those whose keys are full."""
MAX_TURNS: Final = 5
"""How often one lease begins again when all that it found had a key that somebody else held."""
PARKED_TOGETHER: Final = 500
"""How many other jobs of a full key are put aside at once: a later lease need not find them."""
KEYS_AT_ONCE: Final = 200
"""How many keys one transaction locks at most."""


# -- leasing -----------------------------------------------------------------------------------------


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
    A job with limits is leased when all of its keys have room; what a full key keeps back is put aside (parked), so
    that the next lease does not find it.
    """
    # Who holds other locks must not wait for those of keys.
    may_wait = not connection.in_atomic_block
    for _ in range(MAX_TURNS if may_wait else 1):
        leased, is_all = _lease_together(
            worker_id, pools, count, lease_seconds, principal, execution_id, may_wait=may_wait
        )
        if leased or is_all:
            break
    return leased


def _lease_together(
    worker_id: str,
    pools: Sequence[str],
    count: int,
    lease_seconds: float,
    principal: str,
    execution_id: int | None,
    *,
    may_wait: bool,
) -> tuple[list[LeasedJob], bool]:
    """Lease in one transaction. Returns: the jobs, and whether no other was left as it is for a key somebody held."""
    leased: list[LeasedJob] = []
    is_all = True
    with transaction.atomic(savepoint=False):
        for _ in range(MAX_LOOKS):
            wanted = count - len(leased)
            free, limited = store.lease(worker_id, pools, wanted, lease_seconds, principal, execution_id)
            leased += free
            if not limited:
                break
            held = store.lock_keys(keys_of(limited), wait=may_wait)
            # Nor may who holds some of them already.
            may_wait = False
            # A job with a key that somebody else holds is left as it is.
            judged = [job for job in limited if all(limit.key in held for limit in job.limits)]
            is_all = len(judged) == len(limited)
            if not judged:
                break
            placed, full = judge_places(judged, store.live_leases(keys_of(judged)))
            leased += store.lease_these(placed, worker_id, lease_seconds, principal)
            _park(judged, full)
            if len(leased) >= count:
                break
    return leased, is_all


def _park(judged: Sequence[LimitedJob], full: Mapping[int, str]) -> None:
    """Put the jobs aside whose keys are full. What was admitted for one key and now waits for another makes way."""
    if not full:
        return
    store.park(full, PARKED_TOGETHER)
    passed_over = {limit.key for job in judged if job.id in full for limit in job.limits} - set(full.values())
    if passed_over:
        store.admit(passed_over)


def extend_leases(fences: Iterable[Fence], lease_seconds: float) -> list[HeldLease]:
    """Extend leases from now; those that are lost are missing from the answer."""
    with transaction.atomic():
        return store.heartbeat(fences, lease_seconds)


def release_jobs(fences: Iterable[Fence], delay_seconds: float = 0) -> list[int]:
    """Give jobs back when a worker stops in good order: counted neither as a lost lease nor as a try.

    `delay_seconds`: nobody leases them sooner.
    """
    with transaction.atomic():
        released, freed = store.release(fences, delay_seconds)
        _admit_after_commit(freed)
    return released


def retry_external_job(fence: Fence, delay_seconds: float) -> bool:
    """Give a failed job that was enqueued by hand back for another try, after a delay.

    Returns: False when it has none left, is the planner's, or is in other hands; nothing has changed then.
    """
    with transaction.atomic():
        is_queued, freed = store.retry_later(fence, delay_seconds)
        _admit_after_commit(freed)
    return is_queued


# -- within an execution's transaction, which holds its lock -----------------------------------------


def finish_jobs(execution_id: int, fences: Sequence[Fence], statuses: Sequence[str]) -> list[FinishedJob]:
    """Finish the jobs whose fence holds, row by row, and judge the others."""
    judged, freed = store.finish(execution_id, fences, statuses)
    _admit_after_commit(freed)
    return judged


def reap_lease(job_id: int, attempt: int) -> ReapedLease | None:
    """End a lease that has run out, if it still has."""
    reaped, freed = store.reap(job_id, attempt)
    _admit_after_commit(freed)
    return reaped


def take_back_lease(job_id: int) -> ReapedLease | None:
    """End a job's lease uncounted, if it has one."""
    taken, freed = store.take_back(job_id)
    _admit_after_commit(freed)
    return taken


def close_open_jobs(execution_id: int) -> None:
    """Cancel an execution's waiting jobs and ask its running ones to stop."""
    _admit_after_commit(store.close_open(execution_id))


def close_jobs_at(execution_id: int, nodes: Sequence[str]) -> None:
    """Do the same to what is open at these nodes and below them, in any visit; nodes are named without a visit."""
    _admit_after_commit(store.close_nodes(execution_id, nodes))


def hold_open_jobs(execution_id: int, *, held: bool) -> dict[str, int]:
    """Keep an execution's open jobs from being leased, or let them go.

    Returns: how many of each pool can be leased now.
    """
    ready, freed = store.hold_open(execution_id, held=held)
    _admit_after_commit(freed)
    return ready


# -- room at keys ------------------------------------------------------------------------------------


def _admit_after_commit(keys: Collection[str]) -> None:
    if keys:
        # A failure is left to the reconciler: what has been committed stays.
        transaction.on_commit(lambda: admit_jobs(keys), robust=True)


def admit_jobs(keys: Iterable[str]) -> int:
    """Let as many jobs that wait for these keys be leased as there is room for. Returns: how many."""
    ordered, admitted = sorted(keys), 0
    for first in range(0, len(ordered), KEYS_AT_ONCE):
        some = ordered[first : first + KEYS_AT_ONCE]
        with transaction.atomic():
            store.lock_keys(some, wait=True)
            pools = store.admit(some)
        if pools:
            _Listeners.current(pools)
            admitted += sum(pools.values())
    return admitted


Listener = Callable[[Mapping[str, int]], None]


def _tell_nobody(pools: Mapping[str, int]) -> None:
    """Nobody is woken: the reconciler finds jobs that wait by itself."""


class _Listeners:
    """Who is told of admitted jobs in this process."""

    current: Listener = staticmethod(_tell_nobody)


def tell_of_admitted(listener: Listener) -> None:
    """Hand in who is told from now on, after the commit, how many jobs of each pool can be leased that had to wait."""
    _Listeners.current = staticmethod(listener)
