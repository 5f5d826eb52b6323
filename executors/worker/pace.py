"""How many jobs of an execution a worker takes at once: as many as are quickly done, so that slow ones spread."""

from __future__ import annotations

from typing import Final

MOST: Final = 50
WORTH_SECONDS: Final = 0.1
"""How much work is taken at once."""
WEIGHT: Final = 0.3
"""Of the newest job's time in the running mean; a slow one counts at once."""


class Pace:
    """The running mean of the jobs' times, of one execution."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def tell(self, seconds: float) -> None:
        """A job took so long."""
        if self._mean is None or seconds > self._mean * 10:
            self._mean = seconds
        else:
            self._mean += WEIGHT * (seconds - self._mean)

    @property
    def at_once(self) -> int:
        """How many jobs to take; one while nothing is known."""
        if self._mean is None:
            return 1
        return max(1, min(MOST, int(WORTH_SECONDS / max(self._mean, 1e-6))))
