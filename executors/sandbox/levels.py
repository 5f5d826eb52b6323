"""How far jobs are kept apart from one another. Knows nothing of how it is done."""

from __future__ import annotations

from enum import StrEnum


class Isolation(StrEnum):
    """The levels, from the weakest to the strongest."""

    TURN = "turn"
    """One child serves the jobs of one execution's turn, one after the other."""
    JOB = "job"
    """Every job has a child of its own."""
    BWRAP = "bwrap"
    """Every job has a child of its own, inside bubblewrap: no network, the file system read-only, a private /tmp."""

    def is_below(self, other: Isolation) -> bool:
        """Whether this level keeps jobs less apart than the other."""
        levels = list(Isolation)
        return levels.index(self) < levels.index(other)
