"""The queue's rows as values: the only place of this app that runs SQL.

Statements live in `sql/queue.sql`; all run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection

from queueing.domain.jobs import Fence, FoundJob, LeasedJob, NewJob
from queueing.domain.leases import ExpiredLease, FinishedJob, HeldLease, LeaseRecord, ReapedLease
from queueing.errors import JobNotFound

_QUERIES: Final[Any] = aiosql.from_path(Path(__file__).parent / "sql" / "queue.sql", "psycopg")


def _run(name: str, **parameters: Any) -> list[Any]:
    """Run a named statement and give its rows; errors are Django's, as from the ORM."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return list(getattr(_QUERIES, name)(connection.connection, **parameters))


def enqueue(jobs: Sequence[NewJob]) -> list[tuple[int, str]]:
    """Insert jobs by one statement. Returns: (id, pool) of those that were new."""
    return _run(
        "enqueue",
        execution_ids=[job.execution_id for job in jobs],
        node_ids=[job.node_id for job in jobs],
        node_names=[job.node_name for job in jobs],
        kinds=[job.kind for job in jobs],
        actions=[json.dumps(job.action) for job in jobs],
        contexts=[json.dumps(job.context) for job in jobs],
        uuids=[job.uuid for job in jobs],
        item_indexes=[job.item_index for job in jobs],
        timeouts=[job.timeout_seconds for job in jobs],
        pools=[job.pool for job in jobs],
        priorities=[job.priority for job in jobs],
        max_attempts=[job.max_attempts for job in jobs],
        origins=[job.origin for job in jobs],
        availables=[job.available_at for job in jobs],
        held=[job.held for job in jobs],
    )


def lease(
    worker_id: str,
    pools: Sequence[str],
    count: int,
    lease_seconds: float,
    principal: str = "",
    execution_id: int | None = None,
) -> list[LeasedJob]:
    """Lease up to `count` jobs of these pools in one statement, of one execution when it is given."""
    rows = _run(
        "lease",
        worker_id=worker_id,
        pools=list(dict.fromkeys(pools)),
        execution_id=execution_id,
        count=count,
        lease_seconds=lease_seconds,
        principal=principal,
    )
    return [_leased(row) for row in rows]


def _leased(row: tuple[Any, ...]) -> LeasedJob:
    (id_, execution_id, node_id, node_name, kind, action, context, uuid, item_index, timeout, pool, priority,
     attempts, token, leased_at, lease_until) = row  # fmt: skip
    return LeasedJob(
        id_, execution_id, node_id, node_name, kind, json.loads(action), json.loads(context), uuid, item_index,
        timeout, pool, priority, attempts, token, leased_at, lease_until,
    )  # fmt: skip


def _columns(fences: Iterable[Fence]) -> dict[str, list[Any]]:
    held = list(fences)
    return {
        "job_ids": [fence.job_id for fence in held],
        "attempts": [fence.attempt for fence in held],
        "tokens": [fence.lease_token for fence in held],
    }


def heartbeat(fences: Iterable[Fence], lease_seconds: float) -> list[HeldLease]:
    """Extend the leases that are still held and give them; a lost one is missing from the answer."""
    return [HeldLease(*row) for row in _run("heartbeat", lease_seconds=lease_seconds, **_columns(fences))]


def finish(execution_id: int, fences: Sequence[Fence], statuses: Sequence[str]) -> list[FinishedJob]:
    """Finish the jobs whose fence holds, row by row, and judge the others.

    The caller holds the execution's lock.
    """
    rows = _run("finish", execution_id=execution_id, statuses=list(statuses), **_columns(fences))
    done = {row[0]: FinishedJob(row[0], "accepted", *row[1:]) for row in rows}
    rest = [fence for fence in fences if fence.job_id not in done]
    before: set[int] = set()
    if rest:
        columns = _columns(rest)
        before = {row[0] for row in _run("accepted_before", job_ids=columns["job_ids"], tokens=columns["tokens"])}
    return [
        done.get(fence.job_id)
        or FinishedJob(fence.job_id, "already_accepted" if fence.job_id in before else "lease_lost")
        for fence in fences
    ]


def retry(job_id: int, delay_seconds: float) -> str | None:
    """Queue a step's job again that has just failed, after a delay; the try is counted.

    The caller holds the execution's lock. Returns: its pool; None when it was called off.
    """
    rows = _run("retry", job_id=job_id, delay_seconds=delay_seconds)
    return str(rows[0][0]) if rows else None


def release(fences: Iterable[Fence]) -> list[int]:
    """Give leased jobs back uncounted. Returns: the ids of those that were still held."""
    return [row[0] for row in _run("release", **_columns(fences))]


def retry_later(fence: Fence, delay_seconds: float) -> bool:
    """Give a failed job of origin `external` back for another try. Returns: False when it may have none."""
    given = {"job_id": fence.job_id, "attempt": fence.attempt, "token": fence.lease_token}
    return bool(_run("retry_later", delay_seconds=delay_seconds, **given))


def leases_of(job_id: int, principal: str) -> list[LeaseRecord]:
    """The leases of a job that a principal has or had, in their order."""
    return [LeaseRecord(*row) for row in _run("leases_of", job_id=job_id, principal=principal)]


def held_by(execution_id: int, principal: str, count: int) -> list[LeasedJob]:
    """The leased jobs of an execution that a principal of the API holds."""
    return [_leased(row) for row in _run("held_by", execution_id=execution_id, principal=principal, count=count)]


def live_action(fence: Fence) -> dict[str, Any] | None:
    """The action of a job whose lease is held and has not run out."""
    rows = _run("live_lease", job_id=fence.job_id, attempt=fence.attempt, token=fence.lease_token)
    return json.loads(rows[0][0]) if rows else None


def find_expired(count: int) -> list[ExpiredLease]:
    """Leases past their time, the oldest first, without a lock."""
    return [ExpiredLease(row[0], row[1], row[2]) for row in _run("expired", count=count)]


def reap(job_id: int, attempt: int) -> ReapedLease | None:
    """End a lease that has run out, if it still has. The caller holds the execution's lock."""
    rows = _run("reap", job_id=job_id, attempt=attempt)
    return ReapedLease(*rows[0]) if rows else None


def find(job_id: int) -> FoundJob:
    """Whose job it is, without a lock. Raises: `JobNotFound`."""
    rows = _run("find_job", job_id=job_id)
    if not rows:
        raise JobNotFound(job_id)
    return FoundJob(*rows[0])


def take_back(job_id: int) -> ReapedLease | None:
    """End a job's lease uncounted, if it has one. The caller holds the execution's lock."""
    rows = _run("take_back", job_id=job_id)
    return ReapedLease(*rows[0]) if rows else None


def requeue_dead(job_id: int) -> bool:
    """Put a dead external job back, its lost leases forgotten. The caller holds the execution's lock.

    Returns: False when it is not dead (any more).
    """
    return bool(_run("requeue_dead", job_id=job_id))


def close_open(execution_id: int) -> int:
    """Cancel an execution's waiting jobs and ask its running ones to stop. The caller holds its lock."""
    return len(_run("close_open", execution_id=execution_id))


def close_nodes(execution_id: int, nodes: Sequence[str]) -> int:
    """Do the same to what is open at these nodes and below them, in any visit; nodes are named without a visit."""
    return len(_run("close_nodes", execution_id=execution_id, nodes=list(nodes)))


def hold_open(execution_id: int, *, held: bool) -> dict[str, int]:
    """Keep an execution's open jobs from being leased, or let them go. The caller holds its lock.

    Returns: how many of each pool can be leased now.
    """
    ready: dict[str, int] = {}
    for pool, is_ready in _run("hold_open", execution_id=execution_id, held=held):
        if is_ready and not held:
            ready[pool] = ready.get(pool, 0) + 1
    return ready


def waiting_pools(seconds: float) -> dict[str, int]:
    """How many jobs of each pool could have been leased for longer than `seconds`."""
    return dict(_run("waiting_pools", seconds=seconds))


def size(status: str, pool: str | None) -> int:
    """How many jobs have this status."""
    count: int = _run("queue_size", status=status, pool=pool)[0][0]
    return count
