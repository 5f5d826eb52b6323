"""The jobs of one execution in a worker's hands: leased, run one after the other, handed in together.

A job that takes long is watched from another thread: results that wait are handed in, and jobs behind it given back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self

from django.db import connection

from executions.api import Report, failpoint
from executors.contract import ActionKind, ActionRequest, Credential, Outcome
from executors.running import CANCELLED, DEFAULT_TIMEOUT_SECONDS, Lent, outcome_fields, run_action
from executors.worker.gateway import Gateway, GatewayUnavailable
from executors.worker.heartbeat import Held, LeaseKeeper
from executors.worker.lines import LogSender
from executors.worker.pace import Pace
from queueing.api import LeasedJob, Take

logger = logging.getLogger(__name__)

REPORT_AGAIN_SECONDS: Final = 0.5
"""Pause between two tries to report to a database that is away."""
WAIT_SECONDS: Final = 0.1
"""How long a result waits for others at most, and a leased job for the one before it."""


@dataclass(frozen=True, slots=True)
class _Result:
    """What is to be reported of a job, and the lease that allows it."""

    report: Report
    held: Held


class Hand:
    """Jobs of one execution, between their lease and their report. A context: what is left is handed in or given back.

    One thread works; the watch takes results and jobs out of the same hand, under its lock.
    """

    def __init__(self, execution_id: int, means: Means) -> None:
        self._execution_id = execution_id
        self._means = means
        self._lock = threading.Lock()
        self._waiting: deque[tuple[LeasedJob, Held]] = deque()
        self._results: list[_Result] = []
        self._oldest_at = 0.0
        self._busy_since: float | None = None
        # Of a waiting job that its kind may have begun by itself.
        self._ahead: ActionRequest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self._means.watch.leave(self)
        for kind in self._means.kinds.values():
            kind.end_turn()
        if failed is None:
            self.give_back()
            self.hand_in(None)
        else:
            # The database is away, or this worker is broken: the leases run out.
            for _job, held in self._waiting:
                self._means.keeper.drop(held)
            for result in self._results:
                self._means.keeper.drop(result.held)

    def add(self, jobs: Sequence[LeasedJob], asked_at: float) -> None:
        """Take jobs in hand that were leased at `asked_at` (monotonic)."""
        with self._lock:
            self._waiting.extend((job, self._means.keeper.hold(job, asked_at)) for job in jobs)
        if len(jobs) > 1:
            self._means.watch.look_after(self)

    def is_due(self) -> bool:
        """Whether it is time to hand in: nothing is left to do, or the oldest result has waited long enough."""
        with self._lock:
            return not self._waiting or (bool(self._results) and time.monotonic() - self._oldest_at >= WAIT_SECONDS)

    # -- working --------------------------------------------------------------------------------------

    def do_next(self, pace: Pace) -> bool:
        """Run the next job. Returns: False when there is none."""
        begun_at = time.monotonic()
        with self._lock:
            if not self._waiting:
                return False
            job, held = self._waiting.popleft()
            self._busy_since = begun_at
            self._ahead = None
        try:
            report = self._run(job, held, begun_at)
        except BaseException:
            # Also when this process is told to end: a lease that nobody works under is not to be kept alive.
            self._means.keeper.drop(held)
            raise
        done_at = time.monotonic()
        pace.tell(done_at - begun_at)
        with self._lock:
            self._busy_since = None
            if report is not None:
                self._oldest_at = self._oldest_at if self._results else done_at
                self._results.append(_Result(report, held))
        if report is None:
            self._means.keeper.drop(held)
        return True

    def _run(self, job: LeasedJob, held: Held, begun_at: float) -> Report | None:
        """Run a job's action. Returns: what to report of it; None when the lease is gone, or given back."""
        failpoint("action.before")
        request = _request(job)
        log = self._means.lines.open(job.fence)
        try:
            if held.stop.is_set() and self._is_not_begun(request):
                outcome = Outcome("error", code=CANCELLED, message="called off before it began")
            else:
                offer = partial(self._offer_next, job)
                resolve = partial(self._means.resolve, job)
                lent = Lent(self._means.data_dir, held.stop, resolve, offer=offer, lines=log)
                outcome = run_action(self._means.kinds, request, lent, job.action)
        finally:
            lines = self._means.lines.close(log)
        failpoint("action.after")
        if held.lost.is_set():
            logger.warning("lease of %s was lost; its result is dropped", job.node_id)
            return None
        if held.stop.is_set() and outcome.code == CANCELLED:
            if lines:
                self._means.gateway.append_log(job.fence, lines)
            self._means.gateway.release([job.fence])
            return None
        # Also when told to stop meanwhile: what the action has done is done.
        return Report(fence=job.fence, log=lines, **outcome_fields(outcome, time.monotonic() - begun_at))

    def _offer_next(self, job: LeasedJob, begin: Callable[[ActionRequest], None]) -> None:
        """Let a job's kind begin the next one by itself, when it is of the same kind and knows no secrets."""
        with self._lock:
            if self._ahead is not None or not self._waiting:
                return
            following, held = self._waiting[0]
            if following.kind == job.kind and not following.action.get("secrets") and not held.stop.is_set():
                self._ahead = _request(following)
                begin(self._ahead)

    def _is_not_begun(self, request: ActionRequest) -> bool:
        kind = self._means.kinds.get(request.kind)
        return kind is None or kind.recall(request)

    # -- handing in -----------------------------------------------------------------------------------

    def hand_in(self, take: Take | None) -> list[LeasedJob]:
        """Report the results at hand. Returns: what was leased with it, to go on with."""
        with self._lock:
            results, self._results = self._results, []
        if not results:
            return []
        try:
            return self._report(results, take)
        finally:
            for result in results:
                self._means.keeper.drop(result.held)

    def _report(self, results: list[_Result], take: Take | None) -> list[LeasedJob]:
        """Report again and again while the leases last: a repetition is told `already_accepted`.

        From the second time on the evaluation is left to others: it may be what takes the database away.
        """
        again = False
        while True:
            reports = [result.report for result in results]
            try:
                judgements, leased = self._means.gateway.report(
                    self._execution_id, reports, None if again else take, evaluate_later=again
                )
            except GatewayUnavailable as error:
                logger.warning("%s of execution %s not reported yet: %s", len(reports), self._execution_id, error)
                results[0].held.lost.wait(REPORT_AGAIN_SECONDS)
                results = [result for result in results if not result.held.lost.is_set()]
                if not results:
                    raise
                again = True
                continue
            for report, judgement in zip(reports, judgements, strict=True):
                if judgement == "lease_lost":
                    logger.warning("result of job %s came too late: the lease was lost", report.fence.job_id)
            return leased

    def give_back(self) -> None:
        """Give the jobs back that have not begun."""
        with self._lock:
            jobs, self._waiting = list(self._waiting), deque()
            if jobs and self._ahead is not None and not self._is_not_begun(self._ahead):
                self._waiting.append(jobs.pop(0))
            else:
                self._ahead = None
        if not jobs:
            return
        try:
            self._means.gateway.release([job.fence for job, _ in jobs])
        finally:
            for _, held in jobs:
                self._means.keeper.drop(held)

    def relieve(self) -> None:
        """Let nothing wait for a job that takes long; called by the watch."""
        with self._lock:
            since = self._busy_since
            is_held_up = since is not None and time.monotonic() - since >= WAIT_SECONDS
            if not is_held_up or not (self._waiting or self._results):
                return
        self.give_back()
        self.hand_in(None)


class HandWatch:
    """A thread that relieves hands whose job takes long; it starts with the first hand that needs it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._hands: set[Hand] = set()
        self._thread: threading.Thread | None = None

    def look_after(self, hand: Hand) -> None:
        """Watch this hand from now on."""
        with self._changed:
            self._hands.add(hand)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch_for_ever, name="hand-watch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def leave(self, hand: Hand) -> None:
        """Watch it no more."""
        with self._changed:
            self._hands.discard(hand)

    def _watch_for_ever(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                while not self._hands:
                    self._changed.wait()
                hands = list(self._hands)
            for hand in hands:
                try:
                    hand.relieve()
                except GatewayUnavailable as error:
                    logger.warning("what waits behind a slow job stays: %s", error)
                finally:
                    connection.close()
            pause.wait(WAIT_SECONDS / 2)


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker has to work with."""

    gateway: Gateway
    kinds: Mapping[str, ActionKind]
    keeper: LeaseKeeper
    resolve: Callable[[LeasedJob, str], Credential]
    data_dir: Path
    lines: LogSender
    watch: HandWatch = field(default_factory=HandWatch)


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
