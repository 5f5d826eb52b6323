"""Whether the platform has so much to do that new executions are refused (back-pressure).

The counts stop at their bounds, and one is used again, with the starts of this process added: for two seconds while it
allows a start, and in any case so long that counting takes at most a twentieth of a process's time, however many starts
come. So a bound is kept roughly. Children and reruns are never asked about: what runs must be able to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from executions import store
from executions.errors import TooBusy
from queueing.api import count_waiting_up_to

PAUSE_PER_COUNT: Final = 20
ALLOWS_SECONDS: Final = 2.0


@dataclass(slots=True)
class _Count:
    """What was counted up to a bound: for a refusal it counts until `again_at`, for a start until `until`."""

    bound: int
    found: int
    again_at: float
    until: float


_counts: Final[dict[str, _Count]] = {}


def refuse_when_busy() -> None:
    """Raises: `TooBusy` when as many jobs wait or executions run as the settings allow; 0 there allows any number."""
    _check("jobs wait", settings.NOETL_MAX_QUEUED_JOBS, count_waiting_up_to)
    _check("executions run", settings.NOETL_MAX_RUNNING_EXECUTIONS, store.count_running_up_to)


def _check(what: str, bound: int, count: Callable[[int], int]) -> None:
    if not bound:
        return
    now, known = time.monotonic(), _counts.get(what)
    if known is None or known.bound != bound or now >= (known.again_at if known.found >= bound else known.until):
        found, after = count(bound), time.monotonic()
        again_at = after + (after - now) * PAUSE_PER_COUNT
        known = _counts[what] = _Count(bound, found, again_at, max(again_at, after + ALLOWS_SECONDS))
    if known.found >= bound:
        raise TooBusy(f"{known.found} {what} already", bound)
    known.found += 1


def forget_counts() -> None:
    """Count anew at the next start."""
    _counts.clear()
