"""A worker's turn: take jobs from the queue, run their actions, report what came of them.

A turn stays with one execution for a while: the report of its results takes its next jobs in the same transaction.
Quick jobs are leased and reported many at a time; one that turns out slow holds up neither the results before it nor
the jobs after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from executors.contract import ActionKind, Credential
from executors.logs import MOST_BYTES
from executors.worker import drain
from executors.worker.gateway import Gateway
from executors.worker.hand import Hand, Means
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.lines import LogSender
from executors.worker.pace import Pace
from queueing.api import LeasedJob, Take


@dataclass(frozen=True, slots=True)
class TurnBounds:
    """When a turn hands over to the next message; and how long it stays with one execution while others wait."""

    jobs: int = 500
    seconds: float = 2.0
    stay_seconds: float = 0.2


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
        log_bytes: int = MOST_BYTES,
    ) -> None:
        """`log_bytes` is how much of a job's log is kept."""
        self.worker_id = worker_id
        self._gateway = gateway
        self._lease_seconds = lease_seconds
        self._means = Means(gateway, kinds, keeper, resolve, data_dir, LogSender(gateway, log_bytes))

    def close(self) -> None:
        """Release what the action kinds keep warm."""
        for kind in self._means.kinds.values():
            kind.close()

    def run_turn(self, pools: Sequence[str], bounds: TurnBounds) -> TurnEnd:
        """Take jobs until there are none or the bounds are reached."""
        started_at = time.monotonic()
        jobs = 0
        while True:
            if drain.has_begun():
                # The message is spent: whoever takes over is woken by the hand-over, or by the reconciler.
                return TurnEnd(jobs, more=True)
            left = bounds.seconds - (time.monotonic() - started_at)
            if jobs >= bounds.jobs or left <= 0:
                return TurnEnd(jobs, more=True)
            asked_at = time.monotonic()
            leased = self._gateway.lease(self.worker_id, pools, 1, self._lease_seconds)
            if not leased:
                return TurnEnd(jobs, more=False)
            [first] = leased
            stay_until = asked_at + min(left, bounds.stay_seconds)
            jobs += self._stay(first, asked_at, pools, bounds.jobs - jobs, stay_until)

    def _stay(self, first: LeasedJob, asked_at: float, pools: Sequence[str], most: int, until: float) -> int:
        """Work on one execution while it has jobs, until it is time to look at the others. Returns: how many jobs."""
        with Hand(first.execution_id, self._means) as hand:
            pace = Pace()
            hand.add([first], asked_at)
            jobs = 0
            while hand.do_next(pace):
                jobs += 1
                if drain.has_begun():
                    hand.give_back()
                if not hand.is_due():
                    continue
                asked_at = time.monotonic()
                room = 0 if asked_at >= until or drain.has_begun() else min(pace.at_once, most - jobs)
                take = Take(self.worker_id, pools, room, self._lease_seconds) if room > 0 else None
                hand.add(hand.hand_in(take), asked_at)
        return jobs
