"""A worker's turn: lease, run, report, and again, within bounds. The same for Celery and for the reconciler.

Knows leases and outcomes; what an action does is its kind's business, what follows is the evaluator's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from executions.api import Report, failpoint
from executors.contract import ActionKind, ActionRequest, Credential
from executors.running import CANCELLED, DEFAULT_TIMEOUT_SECONDS, Lent, outcome_fields, run_action
from executors.worker import drain
from executors.worker.gateway import Gateway, GatewayUnavailable
from executors.worker.heartbeat import Held, LeaseKeeper
from queueing.api import LeasedJob

logger = logging.getLogger(__name__)

REPORT_AGAIN_SECONDS = 0.5
"""Pause between two tries to report to a database that is away."""


@dataclass(frozen=True, slots=True)
class TurnBounds:
    """When a turn hands over to the next message, so that executions share workers fairly."""

    jobs: int = 50
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """What a turn did. `more`: it ended at its bounds, so there may be jobs left."""

    jobs: int
    more: bool


class Worker:
    """One worker process: its name, its action kinds, its way to the queue."""

    def __init__(
        self,
        worker_id: str,
        gateway: Gateway,
        kinds: Mapping[str, ActionKind],
        keeper: LeaseKeeper,
        resolve: Callable[[LeasedJob, str], Credential],
        data_dir: Path,
        lease_seconds: float,
    ) -> None:
        self.worker_id = worker_id
        self._gateway = gateway
        self._kinds = kinds
        self._keeper = keeper
        self._resolve = resolve
        self._data_dir = data_dir
        self._lease_seconds = lease_seconds

    def close(self) -> None:
        """Release what the action kinds keep warm."""
        for kind in self._kinds.values():
            kind.close()

    def run_turn(self, pools: Sequence[str], bounds: TurnBounds) -> TurnEnd:
        """Take jobs one after the other until there are none or the bounds are reached."""
        try:
            return self._take_jobs(pools, bounds)
        finally:
            for kind in self._kinds.values():
                kind.end_turn()

    def _take_jobs(self, pools: Sequence[str], bounds: TurnBounds) -> TurnEnd:
        started_at = time.monotonic()
        jobs = 0
        while True:
            if drain.has_begun():
                # The message is spent: whoever takes over is woken by the hand-over, or by the reconciler.
                return TurnEnd(jobs, more=True)
            if jobs >= bounds.jobs or time.monotonic() - started_at >= bounds.seconds:
                return TurnEnd(jobs, more=True)
            asked_at = time.monotonic()
            leased = self._gateway.lease(self.worker_id, pools, 1, self._lease_seconds)
            if not leased:
                return TurnEnd(jobs, more=False)
            for job in leased:
                self._do(job, asked_at)
                jobs += 1

    def _do(self, job: LeasedJob, asked_at: float) -> None:
        held = self._keeper.hold(job, asked_at)
        begun_at = time.monotonic()
        try:
            failpoint("action.before")
            outcome = run_action(
                self._kinds,
                _request(job),
                Lent(self._data_dir, held.stop, partial(self._resolve, job)),
                job.action.get("secrets"),
            )
            failpoint("action.after")
            if held.lost.is_set():
                logger.warning("lease of %s was lost; its result is dropped", job.node_id)
            elif held.stop.is_set() and outcome.code == CANCELLED:
                self._gateway.release([job.fence])
            else:
                # Also when told to stop meanwhile: what the action has done is done.
                told = outcome_fields(outcome, time.monotonic() - begun_at)
                self._hand_in(job, held, Report(fence=job.fence, **told))
        finally:
            self._keeper.drop(held)

    def _hand_in(self, job: LeasedJob, held: Held, report: Report) -> None:
        """Report a result, again and again while the lease lasts: a repetition is told `already_accepted`.

        From the second time on the evaluation is left to others: it may be what takes the database away.
        """
        again = False
        while True:
            try:
                [judgement] = self._gateway.report(job.execution_id, [report], evaluate_later=again)
            except GatewayUnavailable as error:
                logger.warning("result of %s could not be reported yet: %s", job.node_id, error)
                if held.lost.wait(REPORT_AGAIN_SECONDS):
                    raise
                again = True
                continue
            if judgement == "lease_lost":
                logger.warning("result of %s came too late: the lease was lost", job.node_id)
            return


def _request(job: LeasedJob) -> ActionRequest:
    return ActionRequest(
        kind=job.kind,
        arguments=job.action.get("arguments", {}),
        inputs=job.action.get("inputs", {}),
        execution_id=str(job.execution_id),
        node_id=job.node_id,
        step=job.node_name,
        attempt=job.attempt,
        effect_key=job.node_id,
        timeout_seconds=job.timeout_seconds or DEFAULT_TIMEOUT_SECONDS,
    )
