"""The reconciler: what makes every message dispensable (rule R11). A plain process, not a Celery task.

It takes back expired leases, fires timers, tells parents of their children, evaluates what was left pending, admits
jobs whose keys have room, wakes workers for jobs that wait, runs turns itself while the broker is away, and repairs
executions that own nothing. One works at a time: the others wait for its advisory lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from django.conf import settings
from django.db import Error, connection

from executions.api import (
    Nudge,
    evaluate_execution,
    find_executions_to_evaluate,
    find_executions_with_due_timers,
    find_executions_without_work,
    find_parents_to_tell,
    fire_timers,
    reap_expired_lease,
    repair_execution,
)
from executors.broker import breaker, carry
from executors.worker import drain
from executors.worker.gateway import GatewayUnavailable
from executors.worker.presence import sweep_offline
from executors.worker.process import this_worker
from executors.worker.turn import TurnBounds
from queueing.api import admit_jobs, count_waiting_by_pool, find_expired_leases, find_parking_keys

logger = logging.getLogger(__name__)

LOCK_KEY: Final = 0x6E6F65746C
TICK_SECONDS: Final = 0.5
PENDING_SECONDS: Final = 1.0
"""How old a pending evaluation or a waiting job is before the reconciler cares."""
ALONE_SECONDS: Final = 2.0
"""How long a job waits with no broker before the reconciler runs it."""
GIVING_BACK_SECONDS: Final = 3.0
"""How long jobs that it runs may take, when it stops, to be given back after their time of grace."""
WITHOUT_WORK_SECONDS: Final = 10.0
"""How long an execution owns nothing before it is repaired; what is about to be committed has come by then."""
BATCH: Final = 100
MAX_PAUSE_SECONDS: Final = 30.0
DAY_SECONDS: Final = 86_400.0


@contextmanager
def _apart(what: str) -> Iterator[None]:
    """Keep a failure of one repair, of whatever kind, from the others, unless the database itself is away."""
    try:
        yield
    except Exception as error:
        # A defect that one execution comes upon would end this process again and again, and nobody would be helped.
        if isinstance(error, Error) and not connection.is_usable():
            raise
        logger.exception("%s failed: %s", what, str(error).strip())


def _work_alone(pools: list[str]) -> None:
    """Run jobs in this process while no message comes through; in a thread, so that repairs go on."""
    try:
        this_worker().run_turn(pools, TurnBounds())
    except GatewayUnavailable as error:
        logger.warning("the database is away: %s", error)
    finally:
        connection.close()


def reap_expired(count: int) -> int:
    """Take back up to so many expired leases, each on its own. Returns: how many."""
    reaped = 0
    for expired in find_expired_leases(count):
        with _apart(f"taking back job {expired.job_id}"):
            lost = reap_expired_lease(expired)
            if lost is not None:
                reaped += 1
                logger.warning("lease %s of %s ran out: job is %s", lost.attempt, lost.node_id, lost.status)
    return reaped


class WakeUps:
    """When to send a wake-up for a pool: less and less often while as many jobs wait as before.

    Busy workers need none, and messages that nobody takes must not pile up.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, float, float]] = {}

    def due(self, waiting: Mapping[str, int], now: float) -> list[str]:
        """The pools to wake at `now` (monotonic), given how many jobs wait in each."""
        due = []
        for pool, count in waiting.items():
            before, sent_at, pause = self._sent.get(pool, (0, float("-inf"), 0.0))
            if now - sent_at < pause:
                continue
            pause = min(max(pause * 2, TICK_SECONDS), MAX_PAUSE_SECONDS) if 0 < before <= count else TICK_SECONDS
            self._sent[pool] = (count, now, pause)
            due.append(pool)
        for pool in self._sent.keys() - waiting.keys():
            del self._sent[pool]
        return due

    def begin_anew(self) -> None:
        """Forget what was sent: it may not have come to anybody."""
        self._sent.clear()


class Reconciler:
    """Repairs what messages missed, tick by tick."""

    def __init__(self) -> None:
        self._swept_at = float("-inf")
        self._partitioned_at = float("-inf")
        self._locked_in: int | None = None
        self._wake_ups = WakeUps()
        self._admitted_up_to = ""
        self._repaired_up_to = 0
        self._alone: Thread | None = None

    def run(self, stop: Event) -> None:
        """Work until told to stop; a database that is away is waited for."""
        while not stop.is_set():
            try:
                if self._is_the_one():
                    self.tick()
            except Error as error:
                logger.warning("the database is away: %s", str(error).strip())
                connection.close()
            stop.wait(TICK_SECONDS)
        if self._alone is not None:
            # It gives back what it cannot finish in time; else its leases would run out, and count as lost.
            self._alone.join(drain.GRACE_SECONDS + GIVING_BACK_SECONDS)
        connection.close()

    def _is_the_one(self) -> bool:
        """Whether this process holds the reconcilers' lock, which ends with its database session."""
        connection.ensure_connection()
        session = connection.connection.info.backend_pid
        if self._locked_in == session:
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY])
            row = cursor.fetchone()
        self._locked_in = session if row and row[0] else None
        return self._locked_in is not None

    def tick(self) -> None:
        """One round of repairs; what goes wrong in one part keeps no other from its turn."""
        for part in (
            self.reap,
            self.fire_timers,
            self.tell_parents,
            self.evaluate_pending,
            self.admit,
            self.wake,
            self.sweep,
        ):
            with _apart(part.__name__):
                part()

    def reap(self) -> int:
        """Take back expired leases. Returns: how many."""
        reaped = reap_expired(BATCH)
        if reaped:
            # With a worker that died the message may be lost that woke it.
            self._wake_ups.begin_anew()
        return reaped

    def fire_timers(self) -> None:
        """Tell executions of the timers whose time has come."""
        for execution_id in find_executions_with_due_timers(BATCH):
            with _apart(f"firing timers of execution {execution_id}"):
                fire_timers(execution_id)

    def tell_parents(self) -> None:
        """Tell executions of children that have ended and whose word did not come through the broker."""
        for execution_id in find_parents_to_tell(PENDING_SECONDS, BATCH):
            with _apart(f"telling execution {execution_id} of its children"):
                evaluate_execution(execution_id)

    def evaluate_pending(self) -> None:
        """Evaluate executions whose evaluation was put off and did not come through the broker."""
        for execution_id in find_executions_to_evaluate(PENDING_SECONDS, BATCH):
            with _apart(f"evaluating execution {execution_id}"):
                evaluate_execution(execution_id)

    def admit(self) -> None:
        """Let parked jobs be leased whose key has room, when whoever made it did not: a batch of keys at a time."""
        keys = find_parking_keys(self._admitted_up_to, BATCH)
        self._admitted_up_to = keys[-1] if len(keys) == BATCH else ""
        if admitted := admit_jobs(keys):
            logger.info("%s jobs that waited for room can be leased", admitted)

    def wake(self) -> None:
        """Send wake-ups for jobs that wait; with the broker away, work on them here."""
        waiting = count_waiting_by_pool(PENDING_SECONDS)
        if due := self._wake_ups.due(waiting, time.monotonic()):
            carry(Nudge(new_jobs=dict.fromkeys(due, 1)))
        if breaker.is_away:
            # What was not sent stays due: else nobody looks for the broker, nor runs the jobs, until the pause is over.
            self._wake_ups.begin_anew()
        if waiting and breaker.is_away and not (self._alone and self._alone.is_alive()):
            pools = sorted(count_waiting_by_pool(ALONE_SECONDS))
            if pools:
                self._alone = Thread(target=_work_alone, args=[pools], name="alone", daemon=True)
                self._alone.start()

    def sweep(self) -> None:
        """Mark components offline that have fallen silent, and repair executions that nothing would go on with."""
        if time.monotonic() - self._swept_at < settings.NOETL_RUNTIME_SWEEP_INTERVAL:
            return
        self._swept_at = time.monotonic()
        sweep_offline(settings.NOETL_RUNTIME_OFFLINE_SECONDS)
        if time.monotonic() - self._partitioned_at >= DAY_SECONDS:
            self._partitioned_at = time.monotonic()
            with connection.cursor() as cursor:
                cursor.execute("SELECT ensure_event_partitions(3)")
        self.repair()

    def repair(self) -> None:
        """Give executions that own nothing back what they wait for, a batch at a time; their logs tell of it."""
        stuck = find_executions_without_work(WITHOUT_WORK_SECONDS, BATCH, self._repaired_up_to)
        self._repaired_up_to = stuck[-1] if len(stuck) == BATCH else 0
        for execution_id in stuck:
            with _apart(f"repairing execution {execution_id}"):
                repair_execution(execution_id)
