"""Ends what blocks in a store's own library when a job's time is over or it is cancelled. Knows clocks and threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

from executors.contract import ActionFailed

LOOK_SECONDS: Final = 0.1


class Watch:
    """One job's time. `deadline` is on `time.monotonic`."""

    def __init__(self, deadline: float, cancelled: Event) -> None:
        self.deadline = deadline
        self.cancelled = cancelled

    @property
    def seconds_left(self) -> float:
        return max(0.001, self.deadline - time.monotonic())

    @property
    def is_over(self) -> bool:
        return self.cancelled.is_set() or time.monotonic() >= self.deadline

    def check(self) -> None:
        """Raises: `ActionFailed` (`timeout`, `cancelled`)."""
        if self.cancelled.is_set():
            raise ActionFailed("cancelled", "stopped because the job was cancelled")
        if time.monotonic() >= self.deadline:
            raise ActionFailed("timeout", "stopped: the step's time is over")

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop` from another thread, again and again, once it is over while the block runs."""
        done = Event()

        def look() -> None:
            while not done.wait(LOOK_SECONDS):
                if self.is_over:
                    stop()

        thread = threading.Thread(target=look, name="store-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
