"""The queue's rows as values: the only place of this app that runs SQL.

Statements live in `sql/queue.sql`; all run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection

from queueing.domain.jobs import Fence, FoundJob, HeldJob, LeasedJob, NewJob
from queueing.domain.leases import ExpiredLease, FinishedJob, HeldLease, LeaseRecord, ReapedLease, Take
from queueing.domain.limits import Limit, LimitedJob, find_beyond
from queueing.errors import JobNotFound

_QUERIES: Final[Any] = aiosql.from_path(Path(__file__).parent / "sql" / "queue.sql", "psycopg")
_STATEMENTS: Final[dict[str, str]] = {name: getattr(_QUERIES, name).sql for name in _QUERIES.available_queries}


def _run(name: str, **parameters: Any) -> list[Any]:
    """Run a named statement and give its rows; errors are Django's, as from the ORM."""
    return _ask(name, **parameters)()


def _ask(name: str, **parameters: Any) -> Callable[[], list[Any]]:
    """Run a named statement. Returns: what gives its rows; it is sent then, or with whatever is sent next."""
    # The project's own database backend; Django's types do not know it.
    asked: Callable[[], list[Any]] = connection.ask_prepared(  # type: ignore[attr-defined]  # see above
        f"queueing.{name}", _STATEMENTS[name], parameters
    )
    return asked


def enqueue(jobs: Sequence[NewJob]) -> list[tuple[int, str]]:
    """Insert jobs of one execution. Returns: (id, pool) of those that were new."""
    if not jobs:
        return []
    lines = list({(job.pool, job.priority): None for job in jobs})
    waits = _waits(jobs)
    firsts = [job.limits[0] if job.limits else None for job in jobs]
    seconds = [job.limits[1] if len(job.limits) > 1 else None for job in jobs]
    return _run(
        "enqueue",
        execution_id=jobs[0].execution_id,
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
        further=_further(jobs),
        waited_for=[first_round for _, first_round in waits],
        first_keys=[limit and limit.key for limit in firsts],
        first_maxs=[limit and limit.most for limit in firsts],
        second_keys=[limit and limit.key for limit in seconds],
        second_maxs=[limit and limit.most for limit in seconds],
        parked=[key for key, _ in waits],
        line_pools=[pool for pool, _ in lines],
        line_priorities=[priority for _, priority in lines],
    )


def _further(jobs: Sequence[NewJob]) -> list[int]:
    """For each job, how many of those before it are of its pool and priority."""
    lines: Counter[tuple[str, int]] = Counter()
    further = []
    for job in jobs:
        further.append(lines[job.pool, job.priority])
        lines[job.pool, job.priority] += 1
    return further


def _waits(jobs: Sequence[NewJob]) -> list[tuple[str | None, int | None]]:
    """For each job: the key that it is parked for from the start, and the first round of those that wait for its keys.

    It is parked behind others that are, and where the batch itself fills a key: the lease need not find it.
    """
    asked = sorted({(limit.key, job.pool, job.priority) for job in jobs for limit in job.limits})
    if not asked:
        return [(None, None)] * len(jobs)
    keys, pools, priorities = (list(column) for column in zip(*asked, strict=True))
    found = _run("waited_for", keys=keys, pools=pools, priorities=priorities)
    others = dict(zip(asked, found, strict=True))
    waits: list[tuple[str | None, int | None]] = []
    for job, beyond in zip(jobs, find_beyond([(job.pool, job.limits) for job in jobs]), strict=True):
        of_job = [(limit.key, *others[limit.key, job.pool, job.priority]) for limit in job.limits]
        parked = beyond or next((key for key, is_parking, _ in of_job if is_parking), None)
        waits.append((parked, min((round_ for _, _, round_ in of_job if round_ is not None), default=None)))
    return waits


def enqueue_leased(jobs: Sequence[NewJob], take: Take) -> Callable[[], list[LeasedJob]]:
    """Insert jobs that are leased at once, to the worker that goes on with them.

    They have no limits and are not held. The caller holds the lock of their execution. Returns: what gives those that
    were new; it may be asked when the transaction has committed.
    """
    documents = [
        {
            "execution_id": job.execution_id,
            "node_id": job.node_id,
            "node_name": job.node_name,
            "kind": job.kind,
            "action": job.action,
            "context": job.context,
            "uuid": job.uuid,
            "item_index": job.item_index,
            "timeout_seconds": job.timeout_seconds,
            "pool": job.pool,
            "priority": job.priority,
            "max_attempts": job.max_attempts,
            "origin": job.origin,
            "further": further,
        }
        for job, further in zip(jobs, _further(jobs), strict=True)
    ]
    asked = _ask(
        "enqueue_leased", jobs=json.dumps(documents), worker_id=take.worker_id, lease_seconds=take.lease_seconds
    )
    return lambda: [_leased(row) for row in asked()]


def lease(
    worker_id: str,
    pools: Sequence[str],
    count: int,
    lease_seconds: float,
    principal: str = "",
    execution_id: int | None = None,
) -> tuple[list[LeasedJob], list[LimitedJob]]:
    """Look at up to `count` jobs of these pools in one statement, of one execution when it is given.

    Returns: those without limits, which are leased, and the others, whose rows are locked.
    """
    rows = _run(
        "lease",
        worker_id=worker_id,
        pools=list(dict.fromkeys(pools)),
        execution_id=execution_id,
        count=count,
        lease_seconds=lease_seconds,
        principal=principal,
    )
    leased = [_leased(row[:-2]) for row in rows if row[1] is not None]
    limited = [
        LimitedJob(row[0], tuple(map(Limit, json.loads(row[-2]), json.loads(row[-1]))))
        for row in rows
        if row[1] is None
    ]
    return leased, limited


def lease_these(job_ids: Sequence[int], worker_id: str, lease_seconds: float, principal: str) -> list[LeasedJob]:
    """Lease jobs that `lease` has locked. The caller holds the locks of their keys, which have room for them."""
    if not job_ids:
        return []
    given = {"worker_id": worker_id, "lease_seconds": lease_seconds, "principal": principal}
    return [_leased(row) for row in _run("lease_these", job_ids=list(job_ids), **given)]


def lock_keys(keys: Sequence[str], *, wait: bool) -> set[str]:
    """Take the locks of keys until the end of the transaction, which must hold none of them when it waits.

    Returns: those that were taken; without waiting, some may be with others.
    """
    if wait:
        _run("lock_keys", keys=list(keys))
        return set(keys)
    return {row[0] for row in _run("try_lock_keys", keys=list(keys))}


def live_leases(keys: Iterable[str]) -> dict[str, int]:
    """How many leases there are of each key. The caller holds their locks."""
    return dict(_run("live_leases", keys=list(keys)))


def park(full: Mapping[int, str], count: int) -> None:
    """Put jobs aside, each for a key that is full, and up to `count` others of each. The caller holds their locks."""
    if full:
        _run("park", job_ids=list(full), keys=list(full.values()), count=count)


def admit(keys: Iterable[str]) -> dict[str, int]:
    """Let as many parked jobs of each key be leased as it has room for. The caller holds their locks.

    Returns: how many of each pool.
    """
    return dict(Counter(row[0] for row in _run("admit", keys=list(keys))))


def parking_keys(after: str, count: int) -> list[str]:
    """Keys that keep jobs parked, in their order, from behind one on."""
    return [row[0] for row in _run("parking_keys", after=after, count=count)]


def _keys(lists: Iterable[str | None]) -> set[str]:
    """The keys in JSON lists, which are null for jobs without limits."""
    return {key for keys in set(lists) if keys is not None for key in json.loads(keys)}


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


def finish(execution_id: int, fences: Sequence[Fence], statuses: Sequence[str]) -> tuple[list[FinishedJob], set[str]]:
    """Finish the jobs whose fence holds, row by row, and judge the others.

    The caller holds the execution's lock. Returns: the judgements, and the keys that have room now.
    """
    rows = _run("finish", execution_id=execution_id, statuses=list(statuses), **_columns(fences))
    done = {row[0]: FinishedJob(row[0], "accepted", *row[1:-1]) for row in rows}
    rest = [fence for fence in fences if fence.job_id not in done]
    before: set[int] = set()
    if rest:
        columns = _columns(rest)
        before = {row[0] for row in _run("accepted_before", job_ids=columns["job_ids"], tokens=columns["tokens"])}
    judged = [
        done.get(fence.job_id)
        or FinishedJob(fence.job_id, "already_accepted" if fence.job_id in before else "lease_lost")
        for fence in fences
    ]
    return judged, _keys(row[-1] for row in rows)


def retry(job_id: int, delay_seconds: float) -> str | None:
    """Queue a step's job again that has just failed, after a delay; the try is counted.

    The caller holds the execution's lock. Returns: its pool; None when it was called off.
    """
    rows = _run("retry", job_id=job_id, delay_seconds=delay_seconds)
    return str(rows[0][0]) if rows else None


def release(fences: Iterable[Fence], delay_seconds: float) -> tuple[list[int], set[str]]:
    """Give leased jobs back uncounted. Returns: the ids of those that were still held, and the keys with room."""
    rows = _run("release", delay_seconds=delay_seconds, **_columns(fences))
    return [row[0] for row in rows], _keys(row[1] for row in rows)


def retry_later(fence: Fence, delay_seconds: float) -> tuple[bool, set[str]]:
    """Give a failed job of origin `external` back for another try.

    Returns: False when it may have none; and the keys with room.
    """
    given = {"job_id": fence.job_id, "attempt": fence.attempt, "token": fence.lease_token}
    rows = _run("retry_later", delay_seconds=delay_seconds, **given)
    return bool(rows), _keys(row[1] for row in rows)


def leases_of(job_id: int, principal: str) -> list[LeaseRecord]:
    """The leases of a job that a principal has or had, in their order."""
    return [LeaseRecord(*row) for row in _run("leases_of", job_id=job_id, principal=principal)]


def held_by(execution_id: int, principal: str, count: int) -> list[LeasedJob]:
    """The leased jobs of an execution that a principal of the API holds."""
    return [_leased(row) for row in _run("held_by", execution_id=execution_id, principal=principal, count=count)]


def held_job(fence: Fence) -> HeldJob | None:
    """Where a job stands whose lease is held."""
    rows = _run("held_job", job_id=fence.job_id, attempt=fence.attempt, token=fence.lease_token)
    return HeldJob(*rows[0]) if rows else None


def live_action(fence: Fence) -> dict[str, Any] | None:
    """The action of a job whose lease is held and has not run out."""
    rows = _run("live_lease", job_id=fence.job_id, attempt=fence.attempt, token=fence.lease_token)
    return json.loads(rows[0][0]) if rows else None


def find_expired(count: int) -> list[ExpiredLease]:
    """Leases past their time, the oldest first, without a lock."""
    return [ExpiredLease(row[0], row[1], row[2]) for row in _run("expired", count=count)]


def reap(job_id: int, attempt: int) -> tuple[ReapedLease | None, set[str]]:
    """End a lease that has run out, if it still has. The caller holds the execution's lock.

    Returns: what became of it, and the keys with room.
    """
    return _reaped(_run("reap", job_id=job_id, attempt=attempt))


def _reaped(rows: list[tuple[Any, ...]]) -> tuple[ReapedLease | None, set[str]]:
    return ReapedLease(*rows[0][:-1]) if rows else None, _keys(row[-1] for row in rows)


def find(job_id: int) -> FoundJob:
    """Whose job it is, without a lock. Raises: `JobNotFound`."""
    rows = _run("find_job", job_id=job_id)
    if not rows:
        raise JobNotFound(job_id)
    return FoundJob(*rows[0])


def take_back(job_id: int) -> tuple[ReapedLease | None, set[str]]:
    """End a job's lease uncounted, if it has one. The caller holds the execution's lock.

    Returns: what became of it, and the keys with room.
    """
    return _reaped(_run("take_back", job_id=job_id))


def requeue_dead(job_id: int, *, held: bool) -> bool:
    """Put a dead external job back, its lost leases forgotten. The caller holds the execution's lock.

    `held`: it waits until the execution goes on. Returns: False when it is not dead (any more).
    """
    return bool(_run("requeue_dead", job_id=job_id, held=held))


def close_open(execution_id: int) -> set[str]:
    """Cancel an execution's waiting jobs and ask its running ones to stop. The caller holds its lock.

    Returns: the keys that have lost a job which could have been leased.
    """
    return _keys(row[1] for row in _run("close_open", execution_id=execution_id))


def close_nodes(execution_id: int, nodes: Sequence[str]) -> set[str]:
    """Do the same to what is open at these nodes and below them, in any visit; nodes are named without a visit."""
    return _keys(row[1] for row in _run("close_nodes", execution_id=execution_id, nodes=list(nodes)))


def hold_open(execution_id: int, *, held: bool) -> tuple[dict[str, int], set[str]]:
    """Keep an execution's open jobs from being leased, or let them go. The caller holds its lock.

    Returns: how many of each pool can be leased now, and the keys that wait for other jobs than before.
    """
    rows = _run("hold_open", execution_id=execution_id, held=held)
    ready = Counter(pool for pool, is_ready, _ in rows if is_ready and not held)
    return dict(ready), _keys(row[-1] for row in rows)


def end_leases_without_jobs(execution_id: int) -> None:
    """End the leases of an execution whose jobs are gone, in the history. The caller holds its lock."""
    _ask("end_leases_without_jobs", execution_id=execution_id)


def waiting_pools(seconds: float) -> dict[str, int]:
    """How many jobs of each pool could have been leased for longer than `seconds`."""
    return dict(_run("waiting_pools", seconds=seconds))


def size(status: str, pool: str | None) -> int:
    """How many jobs have this status."""
    count: int = _run("queue_size", status=status, pool=pool)[0][0]
    return count


def waiting_up_to(bound: int) -> int:
    """How many jobs wait; counting stops soon after `bound`."""
    count: int = _run("waiting_up_to", bound=bound)[0][0]
    return count
