"""Whether the platform has so much to do that new executions are refused (back-pressure).

The counts stop at their bounds, and one is used again for a while: in a process counting takes at most a twentieth of
the time, however many starts come. So a bound is kept roughly. Children and reruns are never asked about: what runs
must be able to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from django.conf import settings

from executions import store
from executions.errors import TooBusy
from queueing.api import count_waiting_up_to

PAUSE_PER_COUNT: Final = 20

_counted: Final[dict[str, tuple[float, int, int]]] = {}
"""What was counted: until when it counts (monotonic), up to which bound, and how many there were."""


def refuse_when_busy() -> None:
    """Raises: `TooBusy` when as many jobs wait or executions run as the settings allow; 0 there allows any number."""
    _check("jobs wait", settings.NOETL_MAX_QUEUED_JOBS, count_waiting_up_to)
    _check("executions run", settings.NOETL_MAX_RUNNING_EXECUTIONS, store.count_running_up_to)


def _check(what: str, bound: int, count: Callable[[int], int]) -> None:
    if not bound:
        return
    now = time.monotonic()
    until, counted_to, found = _counted.get(what, (0.0, 0, 0))
    if now >= until or counted_to != bound:
        found = count(bound)
        after = time.monotonic()
        _counted[what] = (after + (after - now) * PAUSE_PER_COUNT, bound, found)
    if found >= bound:
        raise TooBusy(f"{found} {what} already", bound)


def forget_counts() -> None:
    """Count anew at the next start."""
    _counted.clear()
