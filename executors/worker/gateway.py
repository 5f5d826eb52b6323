"""How a worker turn reaches the queue and the executions: a protocol, and its form on the database."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from django.db import InterfaceError, InternalError, OperationalError, connection

from executions.api import EventsTooNew, LogLine, Report, append_log, failpoint, report_and_take
from executors.contract import Credential
from executors.errors import PlatformAway
from executors.services import resolve_credential
from queueing.api import (
    Fence,
    HeldLease,
    Judgement,
    LeasedJob,
    LeaseLost,
    Take,
    extend_leases,
    lease_jobs,
    release_jobs,
)

logger = logging.getLogger(__name__)

LEFT_TO_NEWER_SECONDS: Final = 10.0
"""How long a job waits at least whose failure a newer release must judge: this one would run it again and again."""


class GatewayUnavailable(PlatformAway):
    """The queue could not be reached; the same call may go through later."""


class Gateway(Protocol):
    """What a turn needs of the world; the database gives it here, REST gives it to a worker elsewhere.

    Every call may raise `GatewayUnavailable`.
    """

    def lease(self, worker_id: str, pools: Sequence[str], count: int, lease_seconds: float) -> list[LeasedJob]:
        """Lease up to `count` jobs."""

    def extend(self, fences: Sequence[Fence], lease_seconds: float) -> list[HeldLease]:
        """Extend leases; a lost one is missing from the answer."""

    def release(self, fences: Sequence[Fence]) -> None:
        """Give jobs back uncounted."""

    def append_log(self, fence: Fence, lines: Sequence[LogLine]) -> None:
        """Keep what a running action has logged; of a lease that is lost nothing is kept."""

    def report(
        self, execution_id: int, reports: Sequence[Report], take: Take | None, *, evaluate_later: bool = False
    ) -> tuple[list[Judgement], list[LeasedJob]]:
        """Hand in results of one execution, and lease its next jobs with it, where that can be done at once."""


@contextmanager
def _reachable() -> Iterator[None]:
    """A lost connection is dropped, so that the next call opens another."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:
        connection.close()
        raise GatewayUnavailable(str(error).strip()) from error


class DatabaseGateway:
    """The gateway of workers that have the database: Celery's and the reconciler's."""

    def lease(self, worker_id: str, pools: Sequence[str], count: int, lease_seconds: float) -> list[LeasedJob]:
        """Lease up to `count` jobs."""
        with _reachable():
            failpoint("lease.before")
            leased = lease_jobs(worker_id, pools, count, lease_seconds)
            if leased:
                failpoint("lease.after")
            return leased

    def extend(self, fences: Sequence[Fence], lease_seconds: float) -> list[HeldLease]:
        """Extend leases; a lost one is missing from the answer."""
        with _reachable():
            return extend_leases(fences, lease_seconds)

    def release(self, fences: Sequence[Fence]) -> None:
        """Give jobs back uncounted."""
        with _reachable():
            release_jobs(fences)

    def append_log(self, fence: Fence, lines: Sequence[LogLine]) -> None:
        """Keep what a running action has logged; of a lease that is lost nothing is kept."""
        with _reachable(), suppress(LeaseLost):
            append_log(fence, lines)

    def report(
        self, execution_id: int, reports: Sequence[Report], take: Take | None, *, evaluate_later: bool = False
    ) -> tuple[list[Judgement], list[LeasedJob]]:
        """Hand in results of one execution; the broker evaluator runs in the same transaction, unless told not to."""
        with _reachable():
            failpoint("report.before")
            try:
                return report_and_take(execution_id, reports, take, evaluate_later=evaluate_later)
            except EventsTooNew as error:
                # Only a failure asks the log, whether it has another try.
                logger.warning("failed jobs are left to a newer release: %s", error)
                return _report_successes(execution_id, reports, take)

    def credential(self, job: LeasedJob, name: str) -> Credential:
        """A credential for a leased job.

        Raises: `CredentialNotFound`, `CredentialUnreadable`, `CredentialOutOfScope`.
        """
        with _reachable():
            return resolve_credential(name, job.execution_id)


def _report_successes(
    execution_id: int, reports: Sequence[Report], take: Take | None
) -> tuple[list[Judgement], list[LeasedJob]]:
    """Hand in the good results alone; the failed jobs go back uncounted, and are judged `lease_lost`."""
    good = [report for report in reports if report.status == "success"]
    judgements, leased = report_and_take(execution_id, good, take, evaluate_later=True)
    release_jobs([report.fence for report in reports if report.status == "error"], LEFT_TO_NEWER_SECONDS)
    judged = iter(judgements)
    return [next(judged) if report.status == "success" else "lease_lost" for report in reports], leased
