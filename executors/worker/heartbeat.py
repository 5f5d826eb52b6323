"""Keeping leases alive while actions run, and ending actions whose lease is lost (rule R9).

Decisions about a lease are the database's; the monotonic clock here only makes a worker give up early, never late. Two
threads: one beats and may hang with the database, the other only looks at the clock and never waits for anybody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import connection

from executors.worker import drain
from executors.worker.gateway import Gateway
from queueing.api import Fence, LeasedJob

logger = logging.getLogger(__name__)

GIVE_UP_SHARE = 0.2
"""A worker drops a job when this share of its lease is left and no heartbeat has succeeded."""
MAX_TICK_SECONDS = 0.5
"""How often the keeper looks, at the least."""


@dataclass(slots=True)
class Held:
    """A lease in hand. `stop` is set when the action must end; `lost` when the lease is gone."""

    fence: Fence
    give_up_at: float
    stop: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)

    def lose(self) -> None:
        """The lease is gone: end the action and keep nothing of it."""
        self.lost.set()
        self.stop.set()


class LeaseKeeper:
    """Extends the leases of one worker process from threads of its own."""

    def __init__(self, gateway: Gateway, lease_seconds: float) -> None:
        self._gateway = gateway
        self._lease_seconds = lease_seconds
        self._tick_seconds = min(lease_seconds / 20, MAX_TICK_SECONDS)
        self._held: dict[int, Held] = {}
        self._lock = threading.Lock()
        self._drain_at: float | None = None
        self._threads: dict[str, threading.Thread] = {}

    def hold(self, job: LeasedJob, asked_at: float) -> Held:
        """Start keeping a lease that was asked for at `asked_at` (monotonic)."""
        held = Held(job.fence, self._give_up_at(asked_at))
        with self._lock:
            self._held[job.id] = held
            self._keep_running("lease-heartbeat", self._beat_for_ever)
            self._keep_running("lease-clock", self._watch_the_clock)
        return held

    def drop(self, held: Held) -> None:
        """Stop keeping a lease: its job has been reported or given back. It may be held anew, by another lease."""
        with self._lock:
            if self._held.get(held.fence.job_id) is held:
                del self._held[held.fence.job_id]

    def _keep_running(self, name: str, work: Callable[[], None]) -> None:
        thread = self._threads.get(name)
        if thread is None or not thread.is_alive():
            self._threads[name] = threading.Thread(target=work, name=name, daemon=True)
            self._threads[name].start()

    def _leases(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    def _give_up_at(self, asked_at: float) -> float:
        return asked_at + self._lease_seconds * (1 - GIVE_UP_SHARE)

    def _beat_for_ever(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._lease_seconds / 3):
            if held := self._leases():
                self._beat(held)

    def _beat(self, held: list[Held]) -> None:
        asked_at = time.monotonic()
        try:
            extended = self._gateway.extend([lease.fence for lease in held], self._lease_seconds)
        except Exception as error:
            # Whatever it is: no answer is no loss yet, the clock decides by the time that is left.
            logger.warning("heartbeat failed: %s", error)
            connection.close()
            return
        kept = {lease.job_id: lease for lease in extended}
        for lease in held:
            answer = kept.get(lease.fence.job_id)
            if answer is None:
                lease.lose()
                continue
            lease.give_up_at = self._give_up_at(asked_at)
            if answer.cancel_requested:
                lease.stop.set()

    def _watch_the_clock(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._tick_seconds):
            now = time.monotonic()
            if drain.has_begun():
                self._drain_at = self._drain_at or now + drain.GRACE_SECONDS
            for lease in self._leases():
                if now >= lease.give_up_at:
                    lease.lose()
                elif self._drain_at is not None and now >= self._drain_at:
                    lease.stop.set()
