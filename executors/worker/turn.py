"""A worker's turn: lease, run, report, and again, within bounds. The same for Celery and for the reconciler.

Knows leases and outcomes; what an action does is its kind's business, what follows is the evaluator's.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from executions.api import Report, failpoint
from executors.contract import ActionFailed, ActionKind, ActionRequest, Credential, Outcome
from executors.errors import ExecutorError
from executors.sandbox.sanitise import OutputInvalid, clean_text, sanitise
from executors.worker import drain
from executors.worker.gateway import Gateway, GatewayUnavailable
from executors.worker.heartbeat import Held, LeaseKeeper
from queueing.api import LeasedJob

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 3600.0
"""How long an action may take when its step names no timeout."""

CANCELLED = "cancelled"
"""The code of an action that ended because it was told to stop."""

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


@dataclass(slots=True)
class Lent:
    """What an action is lent while it runs."""

    data_dir: Path
    cancelled: Event
    resolve: Callable[[str], Credential]
    """The credential of a name, for the job at hand."""

    def credential(self, name: str) -> Credential:
        """Resolve a stored credential. Raises: `ActionFailed`."""
        try:
            return self.resolve(name)
        except ExecutorError as error:
            raise ActionFailed(error.code, str(error)) from None


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
            outcome = self._run_action(job, held.stop)
            failpoint("action.after")
            if held.lost.is_set():
                logger.warning("lease of %s was lost; its result is dropped", job.node_id)
            elif held.stop.is_set() and outcome.code == CANCELLED:
                self._gateway.release([job.fence])
            else:
                # Also when told to stop meanwhile: what the action has done is done.
                self._hand_in(job, held, _report(job, outcome, time.monotonic() - begun_at))
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

    def _run_action(self, job: LeasedJob, stop: Event) -> Outcome:
        """Run the action and make an outcome of whatever comes of it; never raises an action's failure."""
        kind = self._kinds.get(job.kind)
        if kind is None:
            known = ", ".join(sorted(self._kinds))
            return Outcome("error", code="unknown_action", message=f"no action kind {job.kind!r} here; known: {known}")
        try:
            data = sanitise(kind.run(_request(job), Lent(self._data_dir, stop, partial(self._resolve, job))))
        except ActionFailed as failure:
            return _failed(failure)
        except OutputInvalid as error:
            return Outcome("error", code="output_invalid", message=str(error))
        except Exception as error:
            # A defect of the kind itself: the job fails with its cause, the worker lives on.
            logger.exception("action kind %s failed on %s", job.kind, job.node_id)
            message = f"{type(error).__name__}: {error}"
            return Outcome("error", code="action_crashed", message=message, traceback=traceback.format_exc())
        return Outcome("success", data)


def _failed(failure: ActionFailed) -> Outcome:
    try:
        data = sanitise(failure.data)
    except OutputInvalid:
        data = None
    return Outcome("error", data, failure.code, str(failure), failure.traceback)


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


def _report(job: LeasedJob, outcome: Outcome, duration_seconds: float) -> Report:
    error: dict[str, Any] | None = None
    if outcome.status == "error":
        error = {"code": outcome.code, "message": clean_text(outcome.message)}
    return Report(
        fence=job.fence,
        status=outcome.status,
        data=outcome.data,
        error=error,
        traceback=clean_text(outcome.traceback) or None,
        duration_seconds=round(duration_seconds, 6),
    )
