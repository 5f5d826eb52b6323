"""What a step costs in things that can be counted, and that it costs no more in long executions than in short ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Final

from benchmarks import playbooks
from benchmarks.bench import Extent, Scene
from benchmarks.counting import Counter, Spent
from benchmarks.report import Row, Target
from benchmarks.sampling import Series

GROWTH: float = 2
"""How much more a step may cost in an execution of ten times the length. Whatever reads or writes all that has been
so far at every step costs five times as much and more."""
SAMPLES: Final = 3
"""At most: for each count the sessions' statistics are waited for."""
LINE_BOUNDS: Final = {"transactions": 1.1, "messages": 0.1}
LOOP_BOUNDS: Final = {"transactions": 0.1, "messages": 0.05}
NO_BOUNDS: Final[Mapping[str, float]] = {}


def measure_costs(scene: Scene, extent: Extent) -> Iterator[Row]:
    """Transactions, flushes, messages, events and processor time of a step, in a line and in a loop."""
    length, items = extent.size(400, 100), extent.size(1000, 200)
    line, wide = scene.client.register(playbooks.linear(length)), scene.client.register(playbooks.wide())
    with closing(Counter(scene)) as counter:
        counter.watch_idle(extent.size(20, 5))
        in_line, in_loop = count_in_turns(
            counter, min(extent.repeat, SAMPLES), lambda: scene.play(line), lambda: scene.play(wide, items=items)
        )
    yield from count_rows("T1", f"line of {length:,}", in_line, length, LINE_BOUNDS)
    yield from count_rows("T3", f"loop of {items:,}", in_loop, items, LOOP_BOUNDS)


def measure_growth(scene: Scene, extent: Extent) -> Iterator[Row]:
    """Lines and loops of ten times the length, by counts alone, so that a busy machine changes nothing."""
    times, short = 10, extent.size(40, 10)
    line, wide = (scene.client.register(book) for book in (playbooks.linear(short), playbooks.wide()))
    long_line = scene.client.register(playbooks.linear(times * short))

    def many_short() -> None:
        for _ in range(times):
            scene.play(line)
            scene.play(wide, items=short)

    def few_long() -> None:
        scene.play(long_line)
        scene.play(wide, items=times * short)

    steps = 2 * times * short
    with closing(Counter(scene)) as counter:
        counter.watch_idle(extent.size(20, 5))
        small, large = counter.during(many_short).counts, counter.during(few_long).counts
    for what in ("transactions", "messages", "events_read", "wal_kb"):
        name = "WAL" if what == "wal_kb" else what.replace("_", " ")
        unit = "KB/step" if what == "wal_kb" else "a step"
        grown, before = (Series(f"{short}", unit, [getattr(counts, what) / steps]) for counts in (large, small))
        yield Row("G", f"{name}, steps of {times * short} at once", grown, before, Target("<=", GROWTH))


def count_in_turns(counter: Counter, repeat: int, *works: Callable[[], object]) -> list[list[Spent]]:
    """What each of these pieces of work has cost, so many times. Each time takes ten seconds more than the work."""
    rounds = [[counter.during(work) for work in works] for _ in range(repeat)]
    return [list(samples) for samples in zip(*rounds, strict=True)]


def count_rows(
    id_: str, workload: str, spent: Sequence[Spent], steps: int, bounds: Mapping[str, float] = NO_BOUNDS
) -> Iterator[Row]:
    """Counts and processor time per step; `bounds`: at most so many of what is named there."""

    def row(what: str, unit: str, figure: Callable[[Spent], float]) -> Row:
        target = Target("<=", bounds[what]) if what in bounds else None
        return Row(id_, f"{workload}: {what}", Series("platform", unit, [figure(one) for one in spent]), target=target)

    yield row("transactions", "a step", lambda one: one.counts.transactions / steps)
    yield row("messages", "a step", lambda one: one.counts.messages / steps)
    yield row("WAL flushes", "a step", lambda one: one.counts.flushes / steps)
    yield row("WAL", "KB/step", lambda one: one.counts.wal_kb / steps)
    yield row("events", "a step", lambda one: one.counts.events / steps)
    yield row("events read", "a step", lambda one: one.counts.events_read / steps)
    yield row("events by time", "events/s", lambda one: one.counts.events / one.seconds)
    for name in spent[0].processor:
        yield row(f"processor, {name}", "ms/step", partial(_milliseconds, name, steps))
    yield row("processor, all", "ms/step", lambda one: sum(one.processor.values()) * 1000 / steps)


def _milliseconds(name: str, steps: int, spent: Spent) -> float:
    """Processor time of a part; what is taken off as idle may be more than there is."""
    return max(0.0, spent.processor.get(name, 0.0)) * 1000 / steps
