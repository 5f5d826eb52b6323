"""Samples, their medians and spreads, and the order in which they are taken.

Knows numbers only.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Series:
    """Samples of one thing, in one unit."""

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest."""
        return min(self.samples), max(self.samples)

    def percentile(self, percent: int) -> float:
        """The sample below which this many percent are; of a few samples it is the largest."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def interleave(repeat: int, ways: Mapping[str, Callable[[], float]], unit: str) -> dict[str, Series]:
    """Sample several ways in turns: what the machine does meanwhile meets all of them."""
    series = {name: Series(name, unit) for name in ways}
    for _ in range(repeat):
        for name, sample in ways.items():
            series[name].samples.append(sample())
    return series
