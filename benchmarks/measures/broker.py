"""T9: the broker evaluator, a message per evaluation, against raw Celery doing the same without keeping anything.

The platform is one with `NOETL_EVALUATE_INLINE=0`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from benchmarks.bench import Extent, Peers, Scene
from benchmarks.counting import Counter
from benchmarks.measures.costs import count_in_turns, count_rows
from benchmarks.measures.throughput import (
    LINE,
    MILLISECONDS,
    ManyStarts,
    per_second,
    per_step,
    play_line,
    play_wide,
)
from benchmarks.report import Row, Target
from benchmarks.sampling import Series, interleave

SAMPLES = 3
"""Of what has no target, at most: a loop takes long here."""
STEPS = 10
IDLE_SECONDS = 3


def measure_broker(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """A line with a target; a loop, many executions and counts to compare with those of the other mode."""
    yield from _line(here, peers, extent)
    yield from _loop(here, peers, extent)
    yield from _many(here, peers, extent)
    yield from _counts(here, extent)


def _line(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    line = play_line(here, LINE)
    line()
    found = interleave(
        extent.repeat,
        {
            "platform": per_step(line, LINE),
            "Celery, two tasks a step": per_step(partial(peers.celery.two_tasks, LINE), LINE),
            "Celery, two tasks a step, no ack": per_step(partial(peers.celery_noack.two_tasks, LINE), LINE),
        },
        MILLISECONDS,
    )
    mine = found.pop("platform")
    for name, peer in found.items():
        target = None if name.endswith("no ack") else Target("<=", 1.3)
        yield Row("T9", f"line of {LINE} through the broker", mine, peer, target)


def _loop(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    items = extent.size(1000, 200)
    loop, group = play_wide(here, items), partial(peers.celery.group, items)
    name = f"Celery group of {items:,}"
    found = _rates(extent, {"platform": loop, name: group}, items, "items/s")
    yield Row("T9", f"loop of {items:,} through the broker", found["platform"], found[name])


def _many(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    executions = extent.size(20, 8)
    play_line(here, STEPS)()
    with closing(ManyStarts(here, f"bench/linear-{STEPS}", executions)) as many:
        name = "Celery, two tasks a step"
        peer: Callable[[], float] = partial(peers.celery.two_tasks, STEPS, executions)
        found = _rates(extent, {"platform": many.seconds, name: peer}, executions * STEPS, "steps/s")
    workload = f"{executions} executions of {STEPS} steps through the broker"
    yield Row("T9", workload, found["platform"], found[name])


def _rates(extent: Extent, ways: dict[str, Callable[[], float]], steps: int, unit: str) -> dict[str, Series]:
    rates = {name: per_second(way, steps) for name, way in ways.items()}
    return interleave(min(extent.repeat, SAMPLES), rates, unit)


def _counts(here: Scene, extent: Extent) -> Iterator[Row]:
    length, items = 100, extent.size(1000, 200)
    with closing(Counter(here)) as counter:
        counter.watch_idle(IDLE_SECONDS)
        in_line, in_loop = count_in_turns(counter, 1, play_line(here, length), play_wide(here, items))
    yield from count_rows("T9", f"line of {length} through the broker", in_line, length)
    yield from count_rows("T9", f"loop of {items:,} through the broker", in_loop, items)
