"""The reconciler: what makes every message dispensable (rule R11). A plain process, not a Celery task.

It takes back expired leases, evaluates what was left pending, wakes workers for jobs that wait, and runs turns itself
while the broker is away. One works at a time: the others wait for its advisory lock.
"""

from __future__ import annotations

import logging
import time
from threading import Event
from typing import Final

from django.conf import settings
from django.db import Error, connection

from executions.api import (
    ExecutionError,
    Nudge,
    evaluate_execution,
    find_executions_to_evaluate,
    reap_expired_lease,
)
from executors.broker import breaker, carry
from executors.worker.gateway import GatewayUnavailable
from executors.worker.presence import sweep_offline
from executors.worker.process import this_worker
from executors.worker.turn import TurnBounds
from queueing.api import count_waiting_by_pool, find_expired_leases

logger = logging.getLogger(__name__)

LOCK_KEY: Final = 0x6E6F65746C
TICK_SECONDS: Final = 0.5
PENDING_SECONDS: Final = 1.0
"""How old a pending evaluation or a waiting job is before the reconciler cares."""
ALONE_SECONDS: Final = 2.0
"""How long a job waits with no broker before the reconciler runs it."""
BATCH: Final = 100


class Reconciler:
    """Repairs what messages missed, tick by tick."""

    def __init__(self) -> None:
        self._swept_at = float("-inf")
        self._locked_in: int | None = None

    def run(self, stop: Event) -> None:
        """Work until told to stop; a database that is away is waited for."""
        while not stop.is_set():
            try:
                if self._is_the_one():
                    self.tick()
            except (Error, GatewayUnavailable) as error:
                logger.warning("the database is away: %s", str(error).strip())
                connection.close()
            stop.wait(TICK_SECONDS)
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
        """One round of repairs."""
        self.reap()
        self.evaluate_pending()
        self.wake()
        self.sweep()

    def reap(self) -> int:
        """Take back expired leases. Returns: how many."""
        reaped = 0
        for expired in find_expired_leases(BATCH):
            try:
                lost = reap_expired_lease(expired)
            except ExecutionError:
                logger.exception("lease of job %s could not be taken back", expired.job_id)
                continue
            if lost is not None:
                reaped += 1
                logger.warning("lease %s of %s ran out: job is %s", lost.attempt, lost.node_id, lost.status)
        return reaped

    def evaluate_pending(self) -> None:
        """Evaluate executions whose evaluation was put off and did not come through the broker."""
        for execution_id in find_executions_to_evaluate(PENDING_SECONDS, BATCH):
            evaluate_execution(execution_id)

    def wake(self) -> None:
        """Send wake-ups for jobs that wait; with the broker away, work on them here."""
        waiting = count_waiting_by_pool(PENDING_SECONDS)
        if not waiting:
            return
        carry(Nudge(new_jobs=waiting))
        if not breaker.is_away:
            return
        alone = count_waiting_by_pool(ALONE_SECONDS)
        if alone:
            this_worker().run_turn(sorted(alone), TurnBounds())

    def sweep(self) -> None:
        """Mark components offline that have fallen silent."""
        if time.monotonic() - self._swept_at < settings.NOETL_RUNTIME_SWEEP_INTERVAL:
            return
        self._swept_at = time.monotonic()
        sweep_offline(settings.NOETL_RUNTIME_OFFLINE_SECONDS)
        with connection.cursor() as cursor:
            cursor.execute("SELECT ensure_event_partitions(3)")
