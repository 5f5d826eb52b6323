"""Children that wait between two jobs of their execution's turn, and for whom. Starts and ends none itself."""

from __future__ import annotations

import time
from collections import OrderedDict
from threading import Lock

from executors.sandbox.handle import ChildHandle

MOST_JOBS = 50
MOST_SECONDS = 2.0
"""A child takes no job later than this after its first one."""
MOST_WAITING = 8
"""Children that wait at a time; the one that has waited longest goes first."""


class TurnChildren:
    """Idle children by execution. Thread-safe: a child that is taken is nobody else's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: OrderedDict[ChildHandle, str] = OrderedDict()

    def take(self, turn: str, cpu_seconds: int) -> tuple[ChildHandle | None, list[ChildHandle]]:
        """A child of this execution that may use so much CPU time, and those of it that nobody can use any more."""
        with self._lock:
            own = [child for child, whose in self._waiting.items() if whose == turn]
            spent = [child for child in own if is_spent(child)]
            found = next((child for child in own if child not in spent and child.cpu_seconds >= cpu_seconds), None)
            for child in [*spent, *([found] if found else [])]:
                del self._waiting[child]
        return found, spent

    def keep(self, turn: str, child: ChildHandle) -> list[ChildHandle]:
        """Let a fit child wait for this execution's next job. Returns: those that had to make room."""
        with self._lock:
            self._waiting[child] = turn
            too_many = len(self._waiting) - MOST_WAITING
            return [self._waiting.popitem(last=False)[0] for _ in range(too_many)]

    def take_all(self) -> list[ChildHandle]:
        """All of them; none waits any more."""
        with self._lock:
            everyone = list(self._waiting)
            self._waiting.clear()
        return everyone


def is_spent(child: ChildHandle) -> bool:
    """Whether its turn is over: it had its jobs or its time."""
    return child.jobs >= MOST_JOBS or (child.jobs > 0 and time.monotonic() - child.first_job_at >= MOST_SECONDS)
