"""T10 and T11: what the past costs, of one long execution and of a log that is full of other ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks import planning
from benchmarks.bench import Extent, Scene
from benchmarks.loading import fill
from benchmarks.measures.throughput import LINE, MILLISECONDS, per_step, play_line, play_wide
from benchmarks.report import Row, Target
from benchmarks.sampling import Series, interleave


def measure_planning(extent: Extent) -> Iterator[Row]:
    """T10: planning one event late in a long execution, against early in it."""
    length = extent.size(10_000, 1000)
    early, late = Series("at step 100", "us/event"), Series("platform", "us/event")
    for _ in range(extent.repeat):
        seconds = planning.time_chain(length)
        early.samples.append(statistics.median(seconds[80:120]) * 1e6)
        late.samples.append(statistics.median(seconds[-140:-100]) * 1e6)
    yield Row("T10", f"planning at step {length:,}", late, early, Target("<=", 1.2))


def measure_full(empty: Scene, full: Scene, extent: Extent) -> Iterator[Row]:
    """T11: a line and a loop beside many old executions, against the same on a platform that has none."""
    items = extent.size(1000, 200)
    executions, events = fill(full, extent.size(50_000, 1000))
    past = f"{events:,} events, {executions:,} executions"
    ways = {}
    for name, here in (("empty", empty), ("full", full)):
        ways[f"line, {name}"] = per_step(play_line(here, LINE), LINE)
        ways[f"loop, {name}"] = per_step(play_wide(here, items), items)
    for way in ways.values():
        way()
    found = interleave(extent.repeat, ways, MILLISECONDS)
    for name, workload in (("line", f"line of {LINE}"), ("loop", f"loop of {items:,}")):
        there, alone = found[f"{name}, full"], found[f"{name}, empty"]
        yield Row("T11", f"{workload} beside {past}", there, alone, Target("<=", 1.3))
