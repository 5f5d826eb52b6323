"""Keeping leases alive while actions run, and ending actions whose lease is lost (rule R9).

Decisions about a lease are the database's; the monotonic clock here only makes a worker give up early, never late.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from django.db import connection

from executors.worker import drain
from executors.worker.gateway import Gateway, GatewayUnavailable
from queueing.api import Fence, LeasedJob

logger = logging.getLogger(__name__)

GIVE_UP_SHARE = 0.2
"""A worker drops a job when this share of its lease is left and no heartbeat has succeeded."""


MAX_TICK_SECONDS = 0.5
"""How often the keeper looks, at the least."""


@dataclass(slots=True)
class Held:
    """A lease in hand. `stop` is set when the action must end; `lost` tells that the lease is gone."""

    fence: Fence
    give_up_at: float
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False


class LeaseKeeper:
    """Extends the leases of one worker process from a thread of its own."""

    def __init__(self, gateway: Gateway, lease_seconds: float) -> None:
        self._gateway = gateway
        self._lease_seconds = lease_seconds
        self._held: dict[int, Held] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._drain_until: float | None = None
        self._thread: threading.Thread | None = None

    def hold(self, job: LeasedJob, asked_at: float) -> Held:
        """Start keeping a lease that was asked for at `asked_at` (monotonic)."""
        held = Held(job.fence, self._give_up_at(asked_at))
        with self._lock:
            self._held[job.id] = held
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
                self._thread.start()
        return held

    def drop(self, held: Held) -> None:
        """Stop keeping a lease: its job has been reported or given back."""
        with self._lock:
            self._held.pop(held.fence.job_id, None)

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _give_up_at(self, asked_at: float) -> float:
        return asked_at + self._lease_seconds * (1 - GIVE_UP_SHARE)

    def _run(self) -> None:
        next_beat = time.monotonic() + self._lease_seconds / 3
        try:
            while not self._closed:
                self._wake.wait(min(self._lease_seconds / 20, MAX_TICK_SECONDS))
                now = time.monotonic()
                self._drain(now)
                if now >= next_beat:
                    self._beat(now)
                    next_beat = now + self._lease_seconds / 3
                self._give_up(now)
        finally:
            connection.close()

    def _beat(self, asked_at: float) -> None:
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        try:
            extended = self._gateway.extend([lease.fence for lease in held.values()], self._lease_seconds)
        except GatewayUnavailable as error:
            # No answer is no loss yet: `_give_up` decides by the time that is left.
            logger.warning("heartbeat failed: %s", error)
            return
        kept = {lease.job_id: lease for lease in extended}
        for job_id, lease in held.items():
            if job_id not in kept:
                lease.lost = True
                lease.stop.set()
            else:
                lease.give_up_at = self._give_up_at(asked_at)
                if kept[job_id].cancel_requested:
                    lease.stop.set()

    def _drain(self, now: float) -> None:
        """When the worker is to stop: give running actions a little time, then end them."""
        if not drain.has_begun():
            return
        self._drain_until = self._drain_until or now + drain.GRACE_SECONDS
        if now >= self._drain_until:
            with self._lock:
                for lease in self._held.values():
                    lease.stop.set()

    def _give_up(self, now: float) -> None:
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            if now >= lease.give_up_at:
                lease.lost = True
                lease.stop.set()
